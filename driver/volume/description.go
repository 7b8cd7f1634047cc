package volume

import (
	"encoding/hex"
	"fmt"
)

// Verity holds everything that is needed to open a volume with dm-verity. All offsets and sizes are in bytes unless
// the name says blocks.
type Verity struct {
	RootHash      string `json:"root_hash"`       // lower-case hex
	Algorithm     string `json:"algorithm"`       // "sha256"
	HashType      int    `json:"hash_type"`       // 1, dm-verity's "version" field
	Salt          string `json:"salt"`            // hex; empty: no salt
	DataBlockSize uint32 `json:"data_block_size"` // 4096, or 512 for tarfs
	HashBlockSize uint32 `json:"hash_block_size"` // 4096
	DataBlocks    uint64 `json:"data_blocks"`
	HashOffset    uint64 `json:"hash_offset"` // of the superblock; equals DataBlocks*DataBlockSize
	TreeOffset    uint64 `json:"tree_offset"` // of the tree's first (top) block, behind the superblock
}

// Description says what a volume file holds. It is stored beside the volume and copied into manifests.
type Description struct {
	Layout        Layout  `json:"layout"`
	FormatVersion int     `json:"format_version"` // see erofs.FormatVersion: equal tar and version give equal bytes
	Size          int64   `json:"size"`           // of the whole file: data, superblock, tree
	DiffID        string  `json:"diff_id"`        // "sha256:<hex>" of the uncompressed tar that it was made from
	Verity        *Verity `json:"verity,omitempty"`
}

func (v *Verity) check(size int64) error {
	if h, err := hex.DecodeString(v.RootHash); err != nil || len(h) != 32 || hex.EncodeToString(h) != v.RootHash {
		return fmt.Errorf("verity.root_hash %q is not 64 lower-case hex digits", v.RootHash)
	}
	if v.Algorithm != "sha256" || v.HashType != 1 || v.HashBlockSize != 4096 {
		return fmt.Errorf("verity of algorithm %q, hash_type %d, hash_block_size %d; want sha256, 1, 4096",
			v.Algorithm, v.HashType, v.HashBlockSize)
	}
	if v.Salt != "" {
		return fmt.Errorf("verity.salt %q; volumes have no salt", v.Salt)
	}
	if v.DataBlockSize != 4096 && v.DataBlockSize != 512 {
		return fmt.Errorf("verity.data_block_size %d; want 4096 or 512", v.DataBlockSize)
	}
	end := uint64(size)
	if v.DataBlocks == 0 || v.DataBlocks > end/uint64(v.DataBlockSize) ||
		v.HashOffset < v.DataBlocks*uint64(v.DataBlockSize) || v.HashOffset%uint64(v.HashBlockSize) != 0 ||
		v.TreeOffset <= v.HashOffset || v.TreeOffset >= end || v.TreeOffset%uint64(v.HashBlockSize) != 0 {
		return fmt.Errorf("verity of %d data blocks, hash_offset %d, tree_offset %d does not fit a file of %d bytes",
			v.DataBlocks, v.HashOffset, v.TreeOffset, size)
	}
	return nil
}
