package volume

import (
	"errors"
	"fmt"
	"io"

	"github.com/crio-erofs/crio-erofs/driver/erofs"
	"github.com/crio-erofs/crio-erofs/driver/verity"
)

// imageWriter writes the EROFS image of a layer, or only hashes it.
type imageWriter struct {
	out      io.WriterAt
	written  io.ReaderAt // what out got; nil: out keeps nothing
	metadata io.Writer   // nil, or gets the metadata, too
	in       *input
	leaves   *verity.Leaves // nil: do not hash
	bare     bool           // the leaves are to find equal files by only: no tree
	block    int            // size of the blocks that are hashed
}

// head makes room for the digests of the head, whose content is known last.
func (w *imageWriter) head() (*verity.Segment, error) {
	if w.leaves == nil {
		return nil, nil
	}
	return w.leaves.Grow(blockSize / w.block)
}

// stream has write fill the image from pos on, and returns where that ends.
func (w *imageWriter) stream(pos int64, write func(s *sink) error) (end int64, err error) {
	s := newSink(w.out, pos, w.leaves, w.block)
	defer func() { // also when write panics, or the sink's goroutines would wait for ever
		var closeErr error
		if end, closeErr = s.close(); err == nil { // else close may only repeat the first error
			err = closeErr
		}
	}()
	return 0, write(s)
}

// image writes the image and returns its first block and its size.
func (w *imageWriter) image(layout Layout) (*erofs.Image, int64, error) {
	head, err := w.head()
	if err != nil {
		return nil, 0, err
	}
	write := w.aligned
	if layout == LayoutTarfs {
		write = w.tarfs
	}
	img, end, err := write()
	if err != nil {
		return nil, 0, err
	}
	return img, end, w.finish(img, end, head)
}

// aligned writes an image of the aligned layout, all but its first block, and returns where it ends.
func (w *imageWriter) aligned() (img *erofs.Image, end int64, err error) {
	var a *erofs.Aligned
	end, err = w.stream(blockSize, func(s *sink) (err error) {
		a, err = erofs.ReadAligned(&dataSink{sink: s, written: w.written}, w.in)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	if err := w.in.drain(); err != nil {
		return nil, 0, err
	}
	return w.writeMetadata(end, a.WriteMetadata)
}

// tarfs writes an image of the tarfs layout, all but its first block, and returns where it ends.
func (w *imageWriter) tarfs() (img *erofs.Image, end int64, err error) {
	var t *erofs.Tarfs
	var sparse *verity.Leaves
	end, err = w.stream(erofs.TarfsStart, func(s *sink) (err error) {
		if w.written != nil {
			t, err = erofs.ReadTarfs(s, w.in, nil)
			return err
		}
		t, sparse, err = w.readTarfs(s)
		return err
	})
	if sparse != nil {
		defer sparse.Close()
	}
	if err != nil {
		return nil, 0, err
	}
	if w.written != nil {
		end, err = w.copyApart(t, end)
	} else {
		end, err = w.digestApart(t, sparse, end)
	}
	if err != nil {
		return nil, 0, err
	}
	return w.writeMetadata(end, func(out io.Writer) (*erofs.Image, error) { return t.WriteMetadata(out, w.in.sum()) })
}

// copyApart copies the files that cannot stay where the tar has them to pos.
func (w *imageWriter) copyApart(t *erofs.Tarfs, pos int64) (end int64, err error) {
	tar := offsetReader{w.written, erofs.TarfsStart}
	return w.stream(pos, func(s *sink) error {
		return t.PlaceApart(func(f erofs.ApartFile) error { return t.CopyApart(s, tar, f) })
	})
}

// writeMetadata writes an image's metadata at pos.
func (w *imageWriter) writeMetadata(pos int64, write func(io.Writer) (*erofs.Image, error)) (img *erofs.Image, end int64, err error) {
	end, err = w.stream(pos, func(s *sink) (err error) {
		var out io.Writer = s
		if w.metadata != nil {
			out = io.MultiWriter(s, w.metadata)
		}
		img, err = write(out)
		return err
	})
	return img, end, err
}

// finish writes the head of an image that ends at end.
func (w *imageWriter) finish(img *erofs.Image, end int64, head *verity.Segment) error {
	if size := int64(img.Blocks) * int64(w.block); size != end {
		return fmt.Errorf("volume: [should never happen] image of %d bytes has its end at %d", size, end)
	}
	if _, err := w.out.WriteAt(img.Head[:], 0); err != nil {
		return fmt.Errorf("volume: EROFS superblock: %w", err)
	}
	if head != nil {
		verity.Digests(head.Digests, img.Head[:], w.block)
		return head.Done()
	}
	return nil
}

// offsetReader reads a file from an offset on.
type offsetReader struct {
	f      io.ReaderAt
	offset int64
}

func (o offsetReader) ReadAt(b []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, errors.New("negative offset")
	}
	return o.f.ReadAt(b, o.offset+offset)
}
