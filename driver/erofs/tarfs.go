package erofs

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
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
	blocks uint64      // head and tar, and the files that were put behind it
	sparse io.Writer   // nil, or gets the sparse files, too, each filled to whole blocks
	apart  []ApartFile // cannot stay where the tar has them
	last   ApartFile   // placed
	buf    []byte
}

// ApartFile is a file whose data is not used where the tar has it.
type ApartFile struct {
	// Sparse says that the tar has the file in pieces. Other files are apart because of what follows them in the tar.
	Sparse bool
	Blocks uint64 // of TarfsBlockSize, that its data takes

	// First is the block of the image at which the tar has the file's data, if that is in one piece. Last is how the last
	// of its blocks ought to be.
	First uint64
	Last  [TarfsBlockSize]byte

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

	last [TarfsBlockSize]byte // the file's last block up to padStart, of files that have something to pad
}

func (t *tarReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.look(p[:n])
	t.n += int64(n)
	if n > 0 {
		if _, werr := t.w.Write(p[:n]); werr != nil {
			return n, werr
		}
	}
	return n, err
}

// startFile says that the next size bytes are a file's.
func (t *tarReader) startFile(size int64) {
	t.padStart = t.n + size
	t.padEnd = (t.padStart + TarfsBlockSize - 1) &^ (TarfsBlockSize - 1)
	t.last = [TarfsBlockSize]byte{}
}

// look looks at the part of the file's last block, and of what fills it, in what has been read.
func (t *tarReader) look(p []byte) {
	if from, to := max(t.padStart-t.n, 0), min(t.padEnd-t.n, int64(len(p))); from < to {
		t.dirty = t.dirty || !bytes.Equal(p[from:to], zeroBlock[:to-from])
	}
	start := t.padEnd - TarfsBlockSize
	if from, to := max(start-t.n, 0), min(t.padStart-t.n, int64(len(p))); from < to {
		copy(t.last[t.n+from-start:], p[from:to])
	}
}

// ReadTarfs reads a layer's uncompressed tar to the end of the stream and writes it to w, which comes behind the head,
// filled to a multiple of TarfsBlockSize. If sparse is not nil, it gets the data of sparse files whole, in the order of
// the tar, each file filled to such a multiple, too: for callers who do not keep what w gets.
func ReadTarfs(w io.Writer, layer io.Reader, sparse io.Writer) (*Tarfs, error) {
	t := &Tarfs{in: &tarReader{r: layer, w: w}, sparse: sparse}
	t.reader = layerReader{data: t, tree: newTree(), count: func() int64 { return t.in.n }}
	if err := t.reader.readLayer(t.in); err != nil {
		return nil, err
	}
	if err := t.endFile(); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, struct{ io.Reader }{t.in}); err != nil {
		return nil, fmt.Errorf("layer tar: behind the end of the archive: %w", err)
	}
	t.blocks = TarfsStart/TarfsBlockSize + uint64(t.in.n+TarfsBlockSize-1)/TarfsBlockSize
	return t, writeZeros(w, int(-t.in.n&(TarfsBlockSize-1)))
}

// place implements fileData. The tar's reader has read the headers and nothing of the data.
func (t *Tarfs) place(n *node, hdr *tar.Header, data io.Reader) error {
	if err := t.endFile(); err != nil {
		return err
	}
	file := ApartFile{node: n, offset: t.reader.start, Blocks: tarfsBlocks(n.size), Sparse: isSparse(hdr)}
	if file.Sparse {
		if err := t.putApart(file); err != nil || t.sparse == nil {
			return err
		}
		if _, err := io.CopyN(t.sparse, data, hdr.Size); err != nil {
			return fmt.Errorf("sparse data of %d bytes: %w", n.size, noEOF(err))
		}
		return writeZeros(t.sparse, int(-n.size&(TarfsBlockSize-1)))
	}
	start := t.in.n
	if start%TarfsBlockSize != 0 {
		return fmt.Errorf("[should never happen] data at byte %d of the tar", start)
	}
	file.First = uint64(TarfsStart+start) / TarfsBlockSize
	if file.First+n.size/TarfsBlockSize >= maxBlocks {
		return fmt.Errorf("file of %d bytes makes the layer larger than the 2 TiB that an image of layout tarfs can have", n.size)
	}
	n.block = uint32(file.First)
	t.last = file
	t.in.startFile(hdr.Size)
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

func tarfsBlocks(size uint64) uint64 { return (size + TarfsBlockSize - 1) / TarfsBlockSize }

// endFile is called when what follows the last file in its last block has been read.
func (t *Tarfs) endFile() error {
	if !t.in.dirty {
		return nil
	}
	t.in.dirty = false
	t.last.Last = t.in.last
	return t.putApart(t.last)
}

func (t *Tarfs) putApart(f ApartFile) error {
	t.apart = append(t.apart, f)
	return t.reader.tree.take(apartMemory)
}

// PlaceApart gives the files that cannot stay where the tar has them their places behind it, in the order in which it
// calls put for them.
func (t *Tarfs) PlaceApart(put func(ApartFile) error) error {
	for _, f := range t.apart {
		if err := put(f); err != nil {
			return err
		}
		f.node.block = uint32(t.blocks)
		if t.blocks += f.Blocks; t.blocks > maxBlocks {
			return errors.New("layer is larger than the 2 TiB that an image of layout tarfs can have")
		}
	}
	return nil
}

// WriteMetadata writes what follows the tar and the files behind it to w, and returns the image. sum is the tar's
// sha256.
func (t *Tarfs) WriteMetadata(w io.Writer, sum [32]byte) (*Image, error) {
	img, err := t.reader.writeMetadata(w, t.blocks, tarfsBits, TarfsFormatVersion)
	if err != nil {
		return nil, err
	}
	b := append(img.Head[:0], tarfsMagic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(t.in.n))
	_ = append(b, sum[:]...)
	return img, nil
}

// CopyApart writes a file whole, its holes as zeros, to w. written has the tar from its first byte.
func (t *Tarfs) CopyApart(w io.Writer, written io.ReaderAt, f ApartFile) error {
	tr := tar.NewReader(io.NewSectionReader(written, f.offset, t.in.n-f.offset))
	if _, err := tr.Next(); err != nil {
		return fmt.Errorf("file at byte %d of the tar, read again: %w", f.offset, noEOF(err))
	}
	if _, err := io.CopyN(w, tr, int64(f.node.size)); err != nil {
		return fmt.Errorf("file at byte %d of the tar, read again: %w", f.offset, noEOF(err))
	}
	return writeZeros(w, int(-f.node.size&(TarfsBlockSize-1)))
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
