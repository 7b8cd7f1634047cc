package verity

import (
	"bufio"
	"bytes"
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
	level, top := leaves.digests(), []byte(nil)
	for i, offset := range levelOffsets(leaves.blocks, treeOffset) {
		if top, err = writeLevel(w, offset, level); err != nil {
			return root, fmt.Errorf("verity: write level %d of the tree: %w", i, err)
		}
		level = bytes.NewReader(top)
	}
	if _, err := io.ReadFull(level, root[:]); err != nil {
		return root, fmt.Errorf("verity: digests: %w", err)
	}
	return root, nil
}

// writeLevel writes a level's digests to w at offset, padded with zeros to whole hash blocks, and returns the digests
// of these blocks: the level above.
func writeLevel(w io.WriterAt, offset int64, digests io.Reader) (above []byte, err error) {
	in := bufio.NewReaderSize(digests, 1<<18)
	out := bufio.NewWriterSize(io.NewOffsetWriter(w, offset), 1<<18)
	block := make([]byte, HashBlockSize)
	for {
		n, err := io.ReadFull(in, block)
		if errors.Is(err, io.EOF) {
			return above, out.Flush()
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, err
		}
		clear(block[n:])
		sum := sha256.Sum256(block)
		above = append(above, sum[:]...)
		if _, err := out.Write(block); err != nil {
			return nil, err
		}
	}
}
