package kata

import (
	"encoding/hex"
	"fmt"
	"math"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

const (
	hashSHA256 = "sha256"
	hashSHA1   = "sha1"

	// noSalt is how a dm-verity table says that there is no salt (Documentation/admin-guide/device-mapper/verity.rst).
	// Kata's runtime-rs copies the salt into the table as it is (kata-types/src/dmverity.rs); an empty one would
	// leave the table one argument short, and the kernel refuses such a table.
	noSalt = "-"

	// The block sizes that Kata's Go runtime accepts (minBlockSize, maxBlockSize of virtual_volume.go).
	minVerityBlock = 1 << 9
	maxVerityBlock = 1 << 19
)

// DMVerity holds a volume's dm-verity parameters. Data and hash tree are in one file.
type DMVerity struct {
	HashType  string `json:"hashtype"` // the algorithm: "sha256"
	Hash      string `json:"hash"`     // the root hash, hex
	BlockNum  uint64 `json:"blocknum"` // data blocks
	BlockSize uint64 `json:"blocksize"`
	HashSize  uint64 `json:"hashsize"` // size of a hash block
	Offset    uint64 `json:"offset"`   // in bytes, of the tree's first block

	// The three fields below are known to runtime-rs only; readers in Go skip them and assume these very values.

	Salt         string `json:"salt"`          // hex, or "-" for none
	HashVersion  uint32 `json:"hash_type"`     // dm-verity's format version: 1
	NoSuperblock bool   `json:"no_superblock"` // true: the tree starts at Offset; false: a superblock does
}

// NewDMVerity describes the tree of a volume; it returns nil for nil. Offset points behind the volume's superblock,
// because readers in Go take it as the start of the tree.
func NewDMVerity(v *volume.Verity) *DMVerity {
	if v == nil {
		return nil
	}
	d := &DMVerity{
		HashType:     v.Algorithm,
		Hash:         v.RootHash,
		BlockNum:     v.DataBlocks,
		BlockSize:    uint64(v.DataBlockSize),
		HashSize:     uint64(v.HashBlockSize),
		Offset:       v.TreeOffset,
		Salt:         v.Salt,
		HashVersion:  uint32(v.HashType),
		NoSuperblock: true,
	}
	d.fillSalt()
	return d
}

// Validate checks the parameters by the rules of Kata's Go runtime (DmVerityInfo.IsValid), and those that only
// runtime-rs has by the kernel's; the error starts with the field's name.
func (d *DMVerity) Validate() error {
	digits := map[string]int{hashSHA256: 64, hashSHA1: 40}[d.HashType]
	if digits == 0 {
		return fmt.Errorf("hashtype %q is not supported; valid are sha256, sha1", d.HashType)
	}
	if _, err := hex.DecodeString(d.Hash); err != nil || len(d.Hash) != digits {
		return fmt.Errorf("hash %q is not %d hex digits", d.Hash, digits)
	}
	if err := d.validateGeometry(); err != nil {
		return err
	}
	if d.Salt != "" && d.Salt != noSalt {
		if b, err := hex.DecodeString(d.Salt); err != nil || len(b) > 256 { // the superblock has room for 256
			return fmt.Errorf("salt %q is neither %q nor up to 512 hex digits", d.Salt, noSalt)
		}
	}
	if d.HashVersion > 1 {
		return fmt.Errorf("hash_type %d is not a dm-verity format; valid are 0, 1", d.HashVersion)
	}
	return nil
}

func (d *DMVerity) validateGeometry() error {
	if d.BlockNum == 0 || d.BlockNum > math.MaxUint32 {
		return fmt.Errorf("blocknum %d is not in 1..%d", d.BlockNum, uint32(math.MaxUint32))
	}
	if err := checkBlockSize(d.BlockSize); err != nil {
		return fmt.Errorf("blocksize %w", err)
	}
	if err := checkBlockSize(d.HashSize); err != nil {
		return fmt.Errorf("hashsize %w", err)
	}
	// No overflow: at most 2^32 blocks of 2^19 bytes.
	if d.Offset%d.HashSize != 0 || d.Offset < d.BlockNum*d.BlockSize {
		return fmt.Errorf("offset %d is not a multiple of hashsize %d at or behind the %d data bytes",
			d.Offset, d.HashSize, d.BlockNum*d.BlockSize)
	}
	return nil
}

// checkBlockSize wants a power of two, as the kernel does (verity_ctr in drivers/md/dm-verity-target.c).
func checkBlockSize(n uint64) error {
	if n < minVerityBlock || n > maxVerityBlock || n&(n-1) != 0 {
		return fmt.Errorf("%d is not a power of two in %d..%d", n, minVerityBlock, maxVerityBlock)
	}
	return nil
}

func (d *DMVerity) fillSalt() {
	if d.Salt == "" {
		d.Salt = noSalt
	}
}

// fillMissing gives the fields that nydus-snapshotter does not write the values that it means.
func (d *DMVerity) fillMissing(present func(field string) bool) {
	d.fillSalt()
	if !present("hash_type") {
		d.HashVersion = 1
	}
	if !present("no_superblock") {
		d.NoSuperblock = true
	}
}
