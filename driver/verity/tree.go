package verity

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// WriteTree writes the tree over leaves to w, the top level at treeOffset, and returns the root hash.
func WriteTree(w io.WriterAt, treeOffset int64, leaves *Leaves) (root [DigestSize]byte, err error) {
	if leaves.blocks == 0 {
		return root, errors.New("verity: no data blocks, so there is nothing to hash")
	}
	level := leaves.segments
	for i, offset := range levelOffsets(leaves.blocks, treeOffset) {
		above, err := writeLevel(w, offset, level)
		if err != nil {
			return root, fmt.Errorf("verity: write level %d of the tree: %w", i, err)
		}
		level = [][]byte{above}
	}
	copy(root[:], level[0])
	return root, nil
}

// writeLevel writes a level's digests to w at offset, padded with zeros to whole hash blocks, and returns the digests
// of these blocks: the level above.
func writeLevel(w io.WriterAt, offset int64, digests [][]byte) (above []byte, err error) {
	out := bufio.NewWriterSize(io.NewOffsetWriter(w, offset), 1<<20)
	block := make([]byte, 0, HashBlockSize)
	flush := func() error {
		sum := sha256.Sum256(block[:HashBlockSize])
		above = append(above, sum[:]...)
		_, err := out.Write(block[:HashBlockSize])
		block = block[:0]
		return err
	}
	for _, segment := range digests {
		for len(segment) > 0 {
			n := copy(block[len(block):HashBlockSize], segment)
			block, segment = block[:len(block)+n], segment[n:]
			if len(block) < HashBlockSize {
				continue
			}
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	if len(block) > 0 {
		clear(block[len(block):HashBlockSize])
		if err := flush(); err != nil {
			return nil, err
		}
	}
	return above, out.Flush()
}
