package volume

import (
	"errors"
	"fmt"
	"os"

	"github.com/crio-erofs/crio-erofs/driver/erofs"
	"github.com/crio-erofs/crio-erofs/driver/verity"
)

// imageWriter writes the EROFS image of a layer.
type imageWriter struct {
	out    *os.File
	in     *input
	leaves *verity.Leaves // nil: do not hash
	block  int            // size of the blocks that are hashed
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

// aligned writes an image of the aligned layout and returns its size.
func (w *imageWriter) aligned() (int64, error) {
	head, err := w.head()
	if err != nil {
		return 0, err
	}
	var img *erofs.Image
	end, err := w.stream(blockSize, func(s *sink) (err error) {
		img, err = erofs.Build(s, w.in)
		return err
	})
	if err != nil {
		return 0, err
	}
	if err := w.in.drain(); err != nil {
		return 0, err
	}
	return w.finish(img, end, head)
}

// tarfs writes an image of the tarfs layout and returns its size.
func (w *imageWriter) tarfs() (int64, error) {
	head, err := w.head()
	if err != nil {
		return 0, err
	}
	var t *erofs.Tarfs
	end, err := w.stream(erofs.TarfsStart, func(s *sink) (err error) {
		t, err = erofs.ReadTarfs(s, w.in)
		return err
	})
	if err != nil {
		return 0, err
	}
	var img *erofs.Image
	end, err = w.stream(end, func(s *sink) (err error) {
		img, err = t.Finish(s, offsetReader{w.out, erofs.TarfsStart}, [32]byte(w.in.sum.Sum(nil)))
		return err
	})
	if err != nil {
		return 0, err
	}
	return w.finish(img, end, head)
}

// finish writes the head of an image that ends at end.
func (w *imageWriter) finish(img *erofs.Image, end int64, head *verity.Segment) (int64, error) {
	if size := int64(img.Blocks) * int64(w.block); size != end {
		return 0, fmt.Errorf("volume: [should never happen] image of %d bytes has its end at %d", size, end)
	}
	if _, err := w.out.WriteAt(img.Head[:], 0); err != nil {
		return 0, fmt.Errorf("volume: EROFS superblock: %w", err)
	}
	if head != nil {
		verity.Digests(head.Digests, img.Head[:], w.block)
		return end, head.Done()
	}
	return end, nil
}

// offsetReader reads a file from an offset on.
type offsetReader struct {
	f      *os.File
	offset int64
}

func (o offsetReader) ReadAt(b []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, errors.New("negative offset")
	}
	return o.f.ReadAt(b, o.offset+offset)
}
