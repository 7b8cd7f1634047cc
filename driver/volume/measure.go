package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/crio-erofs/crio-erofs/driver/erofs"
	"github.com/crio-erofs/crio-erofs/driver/verity"
)

// Measured is what Measure keeps of a layer for MeasureImage: the digests of the blocks, and the metadata, and none of
// the data. It may be used by several goroutines. Close it.
type Measured struct {
	layout   Layout
	size     int64 // of the image
	head     [blockSize]byte
	metadata *spool
	leaves   *verity.Leaves
}

// Measure reads a layer's uncompressed tar to the end of the stream and returns the description of the volume that
// Build makes of it. It writes no volume and needs neither root nor Linux. What it has to keep beyond some MiB goes to
// files without names in tempDir; if that is empty, in the system's directory for such.
func Measure(layer io.Reader, opts BuildOptions, tempDir string) (d *Description, m *Measured, err error) {
	if err := opts.fill(); err != nil {
		return nil, nil, err
	}
	if tempDir == "" {
		tempDir = os.TempDir()
	}
	m = &Measured{layout: opts.Layout, metadata: &spool{dir: tempDir}}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
			m = nil
		}
	}()
	w := opts.imageWriter(layer)
	defer func() { w.in.close(err) }()
	w.out = discard{}
	switch {
	case !opts.NoVerity:
		m.leaves = &verity.Leaves{SpoolDir: tempDir}
		w.leaves = m.leaves
	case opts.Layout == LayoutAligned:
		w.leaves = &verity.Leaves{SpoolDir: tempDir}
		w.bare = true // there is nothing else to compare files with
		defer func() { err = errors.Join(err, w.leaves.Close()) }()
	}
	if opts.Layout == LayoutAligned {
		w.metadata = m.metadata
	}
	d, img, err := w.volume(opts.Layout)
	if err != nil {
		return nil, m, err
	}
	m.head, m.size = img.Head, int64(img.Blocks)*int64(w.block)
	return d, m, nil
}

// Close frees what is kept.
func (m *Measured) Close() error {
	err := m.metadata.Close()
	if m.leaves != nil {
		err = errors.Join(err, m.leaves.Close())
	}
	return err
}

// keptImage gives back what is kept of an image: its first block and its metadata.
type keptImage struct{ *Measured }

func (k keptImage) ReadAt(b []byte, offset int64) (int, error) {
	if start := k.size - k.metadata.size; offset >= start {
		return k.metadata.ReadAt(b, offset-start)
	}
	if offset+int64(len(b)) > blockSize {
		return 0, fmt.Errorf("volume: [should never happen] %d bytes at %d are of files, which are not kept", len(b), offset)
	}
	return bytes.NewReader(k.head[:]).ReadAt(b, offset)
}

// MeasureImage returns the description of the volume that Merge makes of the layers' volumes, the lowest layer first.
// They must be of LayoutAligned, with trees.
func MeasureImage(ctx context.Context, layers []*Measured) (*Description, error) {
	readers := make([]io.ReaderAt, len(layers))
	all := &verity.Leaves{}
	for i, m := range layers {
		if m.layout != LayoutAligned || m.leaves == nil {
			return nil, fmt.Errorf("layer %d of %d was measured without a tree or for layout %s: only volumes of layout %s "+
				"with trees can be merged", i+1, len(layers), m.layout, LayoutAligned)
		}
		readers[i], all.SpoolDir = keptImage{m}, m.leaves.SpoolDir
	}
	defer all.Close()
	return mergeVolumes(discard{}, readers, all, func(leaves *verity.Leaves, extents []erofs.Extent) error {
		for _, e := range extents {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := copyDigests(leaves, layers[e.Layer].leaves, e.From, e.Blocks); err != nil {
				return err
			}
		}
		return nil
	})
}

// copyDigests appends the digests of blocks of one image to those of another.
func copyDigests(to, from *verity.Leaves, first, blocks uint64) error {
	const most = 1 << 15 // 1 MiB of digests
	for blocks > 0 {
		n := min(blocks, most)
		b := make([]byte, n*verity.DigestSize)
		if _, err := from.ReadAt(b, int64(first*verity.DigestSize)); err != nil {
			return fmt.Errorf("digests of %d blocks from %d on: %w", n, first, err)
		}
		if err := to.Append(b); err != nil {
			return err
		}
		first, blocks = first+n, blocks-n
	}
	return nil
}

// readTarfs reads a tar of which nothing is kept. The digests of sparse files' blocks, which are known only now and
// belong behind the tar, are returned.
func (w *imageWriter) readTarfs(s *sink) (t *erofs.Tarfs, sparse *verity.Leaves, err error) {
	if w.leaves == nil {
		t, err = erofs.ReadTarfs(s, w.in, nil)
		return t, nil, err
	}
	sparse = &verity.Leaves{SpoolDir: w.leaves.SpoolDir}
	apart := imageWriter{out: w.out, leaves: sparse, block: w.block}
	_, err = apart.stream(0, func(second *sink) (err error) {
		t, err = erofs.ReadTarfs(s, w.in, second)
		return err
	})
	return t, sparse, err
}

// digestApart appends the digests of the files that cannot stay where the tar has them, which belong at pos.
func (w *imageWriter) digestApart(t *erofs.Tarfs, sparse *verity.Leaves, pos int64) (end int64, err error) {
	var next uint64 // of sparse's blocks
	err = t.PlaceApart(func(f erofs.ApartFile) error {
		pos += int64(f.Blocks) * int64(w.block)
		if w.leaves == nil {
			return nil
		}
		if f.Sparse {
			next += f.Blocks
			return copyDigests(w.leaves, sparse, next-f.Blocks, f.Blocks)
		}
		if err := copyDigests(w.leaves, w.leaves, f.First, f.Blocks-1); err != nil {
			return err
		}
		last := make([]byte, verity.DigestSize)
		verity.Digests(last, f.Last[:], w.block)
		return w.leaves.Append(last)
	})
	return pos, err
}

// discard keeps nothing.
type discard struct{}

func (discard) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
