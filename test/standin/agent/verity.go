package agent

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/go-dmverity/pkg/dm"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// superblockSize is that of dm-verity's superblock, which cryptsetup defines (lib/verity/verity.c, struct verity_sb).
const superblockSize = 512

// verityOptions are the X-kata.dmverity options of a storage, read as multi_layer_erofs.rs's parse_dmverity_options
// reads them, with its defaults.
type verityOptions struct {
	algorithm   string
	rootHash    string
	salt        string // hex, empty: none
	blockSize   uint64
	hashSize    uint64
	hashOffset  uint64
	hashVersion uint64
	noSuper     bool
	blocks      uint64 // of data; 0: all that is before hashOffset
}

func parseVerityOptions(options []string) (*verityOptions, error) {
	v := &verityOptions{algorithm: "sha256", blockSize: 4096, hashSize: 4096, hashVersion: 1}
	for _, opt := range options {
		if err := v.set(opt); err != nil {
			return nil, err
		}
	}
	switch {
	case v.rootHash == "":
		return nil, errors.New("dm-verity roothash is required but not provided")
	case v.hashOffset == 0:
		return nil, errors.New("dm-verity hashoffset is required but not provided")
	case v.blockSize == 0 || v.hashSize == 0:
		return nil, errors.New("dm-verity blocksize/hashsize must be non-zero")
	case v.hashOffset%v.blockSize != 0:
		return nil, fmt.Errorf("dm-verity hashoffset %d is not aligned to blocksize %d", v.hashOffset, v.blockSize)
	}
	return v, nil
}

func (v *verityOptions) set(opt string) (err error) {
	number := func(prefix string, to *uint64) bool {
		value, ok := strings.CutPrefix(opt, prefix)
		if ok {
			*to, err = strconv.ParseUint(value, 10, 64)
		}
		return ok
	}
	text := func(prefix string, to *string) bool {
		value, ok := strings.CutPrefix(opt, prefix)
		if ok {
			*to = value
		}
		return ok
	}
	switch {
	case text(agentapi.OptVerityRootHash, &v.rootHash), text(agentapi.OptVerityAlgorithm, &v.algorithm):
	case number(agentapi.OptVerityHashOffset, &v.hashOffset), number(agentapi.OptVerityBlockSize, &v.blockSize):
	case number(agentapi.OptVerityHashSize, &v.hashSize), number(agentapi.OptVerityHashVersion, &v.hashVersion):
	case text(agentapi.OptVeritySalt, &v.salt):
		if v.salt == "-" {
			v.salt = ""
		}
	case strings.HasPrefix(opt, agentapi.OptVerityNoSuper):
		v.noSuper, err = strconv.ParseBool(strings.TrimPrefix(opt, agentapi.OptVerityNoSuper))
	}
	if err != nil {
		return fmt.Errorf("option %s: %w", opt, err)
	}
	return nil
}

// hashStart is where the tree begins: behind the superblock's block if there is one
// (kata-containers src/libs/kata-types/src/dmverity.rs, create_dmverity_device).
func (v *verityOptions) hashStart() uint64 {
	start := v.hashOffset / v.hashSize
	if !v.noSuper {
		start += (superblockSize + v.hashSize - 1) / v.hashSize
	}
	return start * v.hashSize
}

// deviceName is that of dmverity.rs's build_dmverity_device_name.
func (v *verityOptions) deviceName(part string) string {
	hash := v.rootHash
	if len(hash) > 32 {
		hash = hash[:32]
	}
	name := fmt.Sprintf("kata-verity-%s-off%d-%s", filepath.Base(part), v.hashOffset, hash)
	if len(name) > dm.DMNameLen-1 {
		name = name[:dm.DMNameLen-1]
	}
	return name
}

// target is the table of the device. Data and tree are on one device.
func (v *verityOptions) target(part string) (dm.Target, error) {
	digest, err := hex.DecodeString(v.rootHash)
	if err != nil {
		return dm.Target{}, fmt.Errorf("dm-verity roothash %q: %w", v.rootHash, err)
	}
	salt, err := hex.DecodeString(v.salt)
	if err != nil {
		return dm.Target{}, fmt.Errorf("dm-verity salt %q: %w", v.salt, err)
	}
	blocks := v.blocks
	if blocks == 0 {
		blocks = v.hashOffset / v.blockSize
	}
	params, err := dm.BuildTargetParams(dm.OpenArgs{
		Version: uint32(v.hashVersion), DataDevice: part, HashDevice: part,
		DataBlockSize: uint32(v.blockSize), HashBlockSize: uint32(v.hashSize), DataBlocks: blocks,
		HashName: v.algorithm, RootDigest: digest, Salt: salt, HashStartBytes: v.hashStart(),
	})
	return dm.Target{Length: blocks * v.blockSize / 512, Type: "verity", Params: params}, err
}

// openVerity makes the device over a partition or disk and returns its name and its node.
func openVerity(part string, v *verityOptions) (name, node string, err error) {
	target, err := v.target(part)
	if err != nil {
		return "", "", err
	}
	control, err := dm.Open()
	if err != nil {
		return "", "", err
	}
	defer control.Close()
	name = v.deviceName(part)
	dev, err := control.CreateDevice(name)
	if err != nil {
		return "", "", err
	}
	node, err = activate(control, name, dev, target)
	if err != nil {
		return "", "", errors.Join(err, closeVerity(name))
	}
	return name, node, nil
}

func activate(control *dm.Control, name string, dev uint64, target dm.Target) (string, error) {
	if err := control.LoadTable(name, []dm.Target{target}); err != nil {
		return "", fmt.Errorf("table %q: %w", target.Params, err)
	}
	if err := control.SuspendDevice(name, false); err != nil {
		return "", err
	}
	// There is no udev: the node has to be made, as dmverity.rs's create_dm_dev_node does.
	node := filepath.Join("/dev/mapper", name)
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(dev)); err != nil && !errors.Is(err, unix.EEXIST) {
		return "", fmt.Errorf("mknod %s: %w", node, err)
	}
	return node, nil
}

func closeVerity(name string) error {
	control, err := dm.Open()
	if err != nil {
		return err
	}
	defer control.Close()
	if err := os.Remove(filepath.Join("/dev/mapper", name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// The kernel lets go of a file system a moment after the last process in its mount namespace has ended.
	var removal error
	waiting := poll(func() bool {
		removal = control.RemoveDevice(name)
		return !errors.Is(removal, unix.EBUSY)
	})
	return errors.Join(removal, waiting)
}
