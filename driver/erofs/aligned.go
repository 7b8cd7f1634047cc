package erofs

import (
	"archive/tar"
	"fmt"
	"io"
)

// alignedData writes each file to blocks of its own.
type alignedData struct {
	w      io.Writer
	blocks uint64 // written or reserved so far, block 0 included
}

func (a *alignedData) place(n *node, _ *tar.Header, data io.Reader) error {
	blocks := (n.size-1)/BlockSize + 1
	if a.blocks+blocks > maxBlocks {
		return fmt.Errorf("file of %d bytes makes the layer larger than the 16 TiB that an image can have", n.size)
	}
	n.block = uint32(a.blocks)
	a.blocks += blocks
	if _, err := io.CopyN(a.w, data, int64(n.size)); err != nil {
		return fmt.Errorf("data of %d bytes: %w", n.size, noEOF(err))
	}
	return writeZeros(a.w, int(blocks*BlockSize-n.size))
}
