package volume

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/crio-erofs/crio-erofs/driver/erofs"
	"github.com/crio-erofs/crio-erofs/driver/verity"
)

// BuildOptions says how to make a volume. The zero value makes an aligned one with a tree.
type BuildOptions struct {
	Layout   Layout // empty: LayoutAligned
	NoVerity bool   // neither tree nor superblock
	NoDiffID bool   // do not compute the layer's diffID; not for LayoutTarfs, which has it in the volume

	// Stats, if not nil, gets what the layer had.
	Stats *erofs.Stats

	// Progress, if not nil, is told now and then how many bytes of the layer's tar have been read.
	Progress func(bytes int64)
}

// fill completes defaults and refuses what cannot be.
func (o *BuildOptions) fill() error {
	if o.Layout == "" {
		o.Layout = LayoutAligned
	}
	if o.NoDiffID && o.Layout == LayoutTarfs {
		return fmt.Errorf("layout %s has the layer's diffID in the volume: it cannot be left out", o.Layout)
	}
	_, err := ParseLayout(string(o.Layout))
	return err
}

// Build reads a layer's uncompressed tar to the end of the stream and writes a volume to out, which must be empty. It
// does not sync out. On an error out's content is of no use, and a layer that is an *io.PipeReader is closed with it.
func Build(out *os.File, layer io.Reader, opts BuildOptions) (_ *Description, err error) {
	if err := opts.fill(); err != nil {
		return nil, err
	}
	w := opts.imageWriter(layer)
	defer func() { w.in.close(err) }()
	w.out, w.written = out, out
	if !opts.NoVerity {
		w.leaves = &verity.Leaves{SpoolDir: filepath.Dir(out.Name())}
		defer w.leaves.Close()
	}
	d, img, err := w.volume(opts.Layout)
	if err != nil {
		return nil, err
	}
	if opts.Stats != nil {
		*opts.Stats = img.Stats
	}
	if err := out.Truncate(d.Size); err != nil { // the end may be a hole
		return nil, fmt.Errorf("volume: %w", err)
	}
	return d, nil
}

// imageWriter returns what reads a layer as the options say, and does not yet know where to write it. Its
// input must be closed.
func (o *BuildOptions) imageWriter(layer io.Reader) *imageWriter {
	return &imageWriter{in: newInput(layer, !o.NoDiffID, o.Progress), block: o.Layout.BlockSize()}
}

// volume writes image and tree.
func (w *imageWriter) volume(layout Layout) (*Description, *erofs.Image, error) {
	img, size, err := w.image(layout)
	if err != nil {
		return nil, nil, err
	}
	leaves := w.leaves
	if w.bare {
		leaves = nil
	}
	d, err := describe(w.out, layout, img, size, leaves)
	if err != nil {
		return nil, nil, err
	}
	if w.in.digest != nil {
		sum := w.in.sum()
		d.DiffID = "sha256:" + hex.EncodeToString(sum[:])
	}
	return d, img, nil
}

// describe puts superblock and tree, if there are leaves, behind an image of this size, and describes the volume.
func describe(out io.WriterAt, layout Layout, img *erofs.Image, size int64, leaves *verity.Leaves) (d *Description, err error) {
	d = &Description{Layout: layout, FormatVersion: img.FormatVersion, Size: size}
	if leaves == nil {
		return d, nil
	}
	if d.Verity, err = writeVerity(out, uint64(size), layout.BlockSize(), leaves); err != nil {
		return nil, err
	}
	d.Size = int64(d.Verity.TreeOffset + verity.TreeSize(d.Verity.DataBlocks))
	return d, nil
}

// writeVerity puts superblock and tree behind the dataSize bytes of data.
func writeVerity(out io.WriterAt, dataSize uint64, block int, leaves *verity.Leaves) (*Verity, error) {
	p := verity.Params{DataBlockSize: uint32(block), DataBlocks: leaves.Blocks(), HashOffset: dataSize}
	root, err := verity.WriteTree(out, int64(p.TreeOffset()), leaves)
	if err != nil {
		return nil, err
	}
	if err := verity.WriteSuperblock(out, p, root); err != nil {
		return nil, err
	}
	return describeVerity(p, root), nil
}

func describeVerity(p verity.Params, root [verity.DigestSize]byte) *Verity {
	return &Verity{
		RootHash:      hex.EncodeToString(root[:]),
		Algorithm:     "sha256",
		HashType:      1,
		DataBlockSize: p.DataBlockSize,
		HashBlockSize: verity.HashBlockSize,
		DataBlocks:    p.DataBlocks,
		HashOffset:    p.HashOffset,
		TreeOffset:    p.TreeOffset(),
	}
}
