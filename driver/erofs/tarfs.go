package erofs

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

const (
	// TarfsBlockSize is the block size of the tarfs layout, in bytes: that of a tar. Linux 6.4 and later mount such
	// images.
	TarfsBlockSize = 1 << tarfsBits
	tarfsBits      = 9

	// TarfsStart is where the tar starts in an image of that layout.
	TarfsStart = BlockSize

	// tarfsMagic starts the image: before the superblock at 1024 the format leaves room for others.
	tarfsMagic = "crioerofs tarfs\x00"
)

// Tarfs is an image of the tarfs layout in the making:
//
//	[ head of 4096 bytes | the tar, verbatim | some files | metadata ]
//
// File data is where the tar has it. Only files that a tar has in pieces, sparse ones, and files that are not followed
// by zeros up to the end of their last block are written once more.
type Tarfs struct {
	in     *tarReader
	reader layerReader
	blocks uint64    // head and tar
	apart  []tarFile // files that cannot stay where the tar has them
	last   tarFile   // placed
	buf    []byte
}

type tarFile struct {
	node   *node
	offset int64 // of its first header in the tar
}

// tarReader copies what it reads to the image, and counts. It looks whether the file that is being read is followed by
// zeros up to the end of its last block: there they are seen when the file is mapped.
type tarReader struct {
	r io.Reader
	w io.Writer
	n int64

	padStart, padEnd int64 // of the file
	dirty            bool  // some of that is not zero
}

func (t *tarReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if from, to := max(t.padStart-t.n, 0), min(t.padEnd-t.n, int64(n)); from < to {
		t.dirty = t.dirty || !bytes.Equal(p[from:to], zeroBlock[:to-from])
	}
	t.n += int64(n)
	if n > 0 {
		if _, werr := t.w.Write(p[:n]); werr != nil {
			return n, werr
		}
	}
	return n, err
}

// ReadTarfs reads a layer's uncompressed tar to the end of the stream and writes it to w, which comes behind the head,
// filled to a multiple of TarfsBlockSize.
func ReadTarfs(w io.Writer, layer io.Reader) (*Tarfs, error) {
	t := &Tarfs{in: &tarReader{r: layer, w: w}}
	t.reader = layerReader{data: t, root: newRoot(), count: func() int64 { return t.in.n }}
	if err := t.reader.readLayer(t.in); err != nil {
		return nil, err
	}
	t.endFile()
	if _, err := io.Copy(io.Discard, struct{ io.Reader }{t.in}); err != nil {
		return nil, fmt.Errorf("layer tar: behind the end of the archive: %w", err)
	}
	t.blocks = TarfsStart/TarfsBlockSize + uint64(t.in.n+TarfsBlockSize-1)/TarfsBlockSize
	return t, writeZeros(w, int(-t.in.n&(TarfsBlockSize-1)))
}

// place implements fileData. The tar's reader has read the headers and nothing of the data.
func (t *Tarfs) place(n *node, hdr *tar.Header, data io.Reader) error {
	t.endFile()
	file := tarFile{node: n, offset: t.reader.start}
	if isSparse(hdr) {
		t.apart = append(t.apart, file)
		return nil
	}
	start := t.in.n
	if start%TarfsBlockSize != 0 {
		return fmt.Errorf("[should never happen] data at byte %d of the tar", start)
	}
	block := uint64(TarfsStart+start) / TarfsBlockSize
	if block+n.size/TarfsBlockSize >= maxBlocks {
		return fmt.Errorf("file of %d bytes makes the layer larger than the 2 TiB that an image of layout tarfs can have", n.size)
	}
	n.block = uint32(block)
	t.last = file
	t.in.padStart, t.in.padEnd = start+hdr.Size, (start+hdr.Size+TarfsBlockSize-1)&^(TarfsBlockSize-1)
	if t.buf == nil {
		t.buf = make([]byte, 256<<10)
	}
	// Reading copies it to the image. io.Discard's own buffers are small.
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{data}, t.buf)
	if err != nil {
		return fmt.Errorf("data of %d bytes: %w", n.size, noEOF(err))
	}
	return nil
}

// endFile is called when what follows the last file in its last block has been read.
func (t *Tarfs) endFile() {
	if t.in.dirty {
		t.apart = append(t.apart, t.last)
	}
	t.in.dirty = false
}

// Finish writes what follows the tar to w and returns the image. written has the tar from its first byte; sum is its
// sha256.
func (t *Tarfs) Finish(w io.Writer, written io.ReaderAt, sum [32]byte) (*Image, error) {
	blocks := t.blocks
	for _, s := range t.apart {
		if err := t.writeApart(w, written, s); err != nil {
			return nil, err
		}
		s.node.block = uint32(blocks)
		blocks += (s.node.size + TarfsBlockSize - 1) / TarfsBlockSize
		if blocks > maxBlocks {
			return nil, fmt.Errorf("layer is larger than the 2 TiB that an image of layout tarfs can have")
		}
	}
	img, err := writeMetadata(w, t.reader.root, blocks, tarfsBits)
	if err != nil {
		return nil, err
	}
	t.reader.stats.Inodes = img.Stats.Inodes
	img.Stats = t.reader.stats
	b := append(img.Head[:0], tarfsMagic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(t.in.n))
	_ = append(b, sum[:]...)
	return img, nil
}

// writeApart writes a file whole, its holes as zeros.
func (t *Tarfs) writeApart(w io.Writer, written io.ReaderAt, s tarFile) error {
	tr := tar.NewReader(io.NewSectionReader(written, s.offset, t.in.n-s.offset))
	if _, err := tr.Next(); err != nil {
		return fmt.Errorf("file at byte %d of the tar, read again: %w", s.offset, noEOF(err))
	}
	if _, err := io.CopyN(w, tr, int64(s.node.size)); err != nil {
		return fmt.Errorf("file at byte %d of the tar, read again: %w", s.offset, noEOF(err))
	}
	return writeZeros(w, int(-s.node.size&(TarfsBlockSize-1)))
}

// TarInfo is what the head of an image of the tarfs layout says of its tar.
type TarInfo struct {
	Size   int64 // in bytes, from TarfsStart
	SHA256 [32]byte
}

// ReadTarInfo reads it from the head of an image.
func ReadTarInfo(r io.ReaderAt, h *Header) (*TarInfo, error) {
	b := make([]byte, len(tarfsMagic)+8+32)
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, int64(len(b))), b); err != nil {
		return nil, fmt.Errorf("head of a tarfs image: %w", err)
	}
	if string(b[:len(tarfsMagic)]) != tarfsMagic {
		return nil, fmt.Errorf("%w: blocks of %d bytes, but not this project's tarfs layout", ErrNotImage, h.BlockSize)
	}
	size := binary.LittleEndian.Uint64(b[len(tarfsMagic):])
	if size > uint64(h.Size()-TarfsStart) {
		return nil, corrupt("tar of %d bytes in an image of %d", size, h.Size())
	}
	return &TarInfo{Size: int64(size), SHA256: [32]byte(b[len(tarfsMagic)+8:])}, nil
}
