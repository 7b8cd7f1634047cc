package kata

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Parameters returns the parameters as one line of veritysetup options and the root hash. This is the line that
// nydus-image prints behind "dm-verity options: " and that the RFC's ExtraOption carries:
//
//	--no-superblock --format=1 -s "" --hash=sha256 --data-block-size=4096 --hash-block-size=4096
//	--data-blocks 1038 --hash-offset 4255744 <root hash>
//
// (one line). With these options "veritysetup open" takes the volume as data and as hash device.
func (d *DMVerity) Parameters() string {
	salt := d.Salt
	if salt == "" || salt == noSalt {
		salt = `""`
	}
	var superblock string
	if d.NoSuperblock {
		superblock = "--no-superblock "
	}
	return fmt.Sprintf("%s--format=%d -s %s --hash=%s --data-block-size=%d --hash-block-size=%d "+
		"--data-blocks %d --hash-offset %d %s", superblock, d.HashVersion, salt, d.HashType, d.BlockSize, d.HashSize,
		d.BlockNum, d.Offset, d.Hash)
}

// ParseParameters is the inverse of Parameters. It takes "--key=value" as well as "--key value", in any order, and
// wants every parameter exactly once; --no-superblock is the one that may be missing.
func ParseParameters(line string) (*DMVerity, error) {
	p := parameterParser{words: strings.Fields(line), seen: map[string]bool{}}
	for len(p.words) > 0 {
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	for _, key := range []string{"--format", "-s", "--hash", "--data-block-size", "--hash-block-size",
		"--data-blocks", "--hash-offset", "root hash"} {
		if !p.seen[key] {
			return nil, fmt.Errorf("%s is missing", key)
		}
	}
	if err := p.d.Validate(); err != nil {
		return nil, err
	}
	return &p.d, nil
}

type parameterParser struct {
	words []string
	seen  map[string]bool
	d     DMVerity
}

// next consumes one option with its value, or the root hash.
func (p *parameterParser) next() error {
	key, value, hasValue := strings.Cut(p.words[0], "=")
	p.words = p.words[1:]
	if !strings.HasPrefix(key, "-") {
		if hasValue {
			return fmt.Errorf("root hash %q is not hex", key+"="+value)
		}
		key, value = "root hash", key
	} else if key != "--no-superblock" && !hasValue {
		if len(p.words) == 0 {
			return fmt.Errorf("%s has no value", key)
		}
		value, p.words = p.words[0], p.words[1:]
	}
	if p.seen[key] {
		return fmt.Errorf("%s appears twice", key)
	}
	p.seen[key] = true
	if err := p.set(key, value); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

func (p *parameterParser) set(key, value string) (err error) {
	d := &p.d
	switch key {
	case "--no-superblock":
		d.NoSuperblock = true
	case "--format":
		var n uint64
		n, err = strconv.ParseUint(value, 10, 8)
		d.HashVersion = uint32(n)
	case "-s":
		if d.Salt = value; value == `""` || value == `''` {
			d.Salt = noSalt
		}
	case "--hash":
		d.HashType = value
	case "--data-block-size":
		d.BlockSize, err = strconv.ParseUint(value, 10, 64)
	case "--hash-block-size":
		d.HashSize, err = strconv.ParseUint(value, 10, 64)
	case "--data-blocks":
		d.BlockNum, err = strconv.ParseUint(value, 10, 64)
	case "--hash-offset":
		d.Offset, err = strconv.ParseUint(value, 10, 64)
	case "root hash":
		d.Hash = value
	default:
		err = errors.New("unknown option")
	}
	return err
}
