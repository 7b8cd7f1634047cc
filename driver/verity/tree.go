package verity

import (
	"bytes"
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
	piece := make([]byte, 64*HashBlockSize)
	for {
		n, err := io.ReadFull(digests, piece)
		if errors.Is(err, io.EOF) {
			return above, nil
		}
		last := errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return nil, err
		}
		blocks := (n + HashBlockSize - 1) / HashBlockSize
		data := piece[:blocks*HashBlockSize]
		clear(data[n:])
		sums := make([]byte, blocks*DigestSize)
		Digests(sums, data, HashBlockSize)
		above = append(above, sums...)
		if _, err := w.WriteAt(data, offset); err != nil {
			return nil, err
		}
		offset += int64(len(data))
	}
}
