package verity

import "crypto/sha256"

const (
	// HashBlockSize is the size of the tree's blocks, in bytes.
	HashBlockSize = 4096

	// DigestSize is the size of a leaf, and of the root hash, in bytes.
	DigestSize = sha256.Size

	// digestsPerBlock digests fit in a hash block.
	digestsPerBlock = HashBlockSize / DigestSize
)

// levelBlocks returns the number of hash blocks of each level of the tree over dataBlocks blocks, leaves first.
// A single data block has no tree: its digest is the root hash (drivers/md/dm-verity-target.c, verity_ctr).
func levelBlocks(dataBlocks uint64) []uint64 {
	var levels []uint64
	for n := dataBlocks; n > 1; {
		n = (n + digestsPerBlock - 1) / digestsPerBlock
		levels = append(levels, n)
	}
	return levels
}

// TreeSize returns the size in bytes of the tree over dataBlocks blocks, without the superblock.
func TreeSize(dataBlocks uint64) uint64 {
	var blocks uint64
	for _, n := range levelBlocks(dataBlocks) {
		blocks += n
	}
	return blocks * HashBlockSize
}

// levelOffsets returns where each level starts, leaves first, for a tree that starts at treeOffset.
func levelOffsets(dataBlocks uint64, treeOffset int64) []int64 {
	levels := levelBlocks(dataBlocks)
	offsets := make([]int64, len(levels))
	for i := len(levels) - 1; i >= 0; i-- {
		offsets[i] = treeOffset
		treeOffset += int64(levels[i]) * HashBlockSize
	}
	return offsets
}
