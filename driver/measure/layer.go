package measure

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// measuredLayer is a layer whose volume is known, and what is needed to know the volume of its image.
type measuredLayer struct {
	volume Volume
	file   *os.File
}

func (l *measuredLayer) measure(ctx context.Context, b Blob, opts Options) (err error) {
	tar, err := b.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tar.Close()) }()
	if l.file, err = tempFile(opts.TempDir); err != nil {
		return err
	}
	d, err := volume.Build(l.file, contextReader{ctx, tar}, volume.BuildOptions{Layout: opts.Layout})
	if err != nil {
		return err
	}
	if d.DiffID != b.DiffID {
		return fmt.Errorf("its tar has digest %s, but the image's configuration says %s: the registry or the image is "+
			"not what it claims; do not use it", d.DiffID, b.DiffID)
	}
	l.volume = newVolume(d)
	return nil
}

func (l *measuredLayer) close() {
	if l.file != nil {
		l.file.Close()
	}
}

// measureImage fills in the image's volume: the only volume of the layers, or else their union.
func (m *Measurement) measureImage(ctx context.Context, measured map[string]*measuredLayer, opts Options) error {
	stack := m.Stack()
	if len(stack) == 1 {
		v := stack[0].Volume
		m.ImageVolume = &v
		return nil
	}
	if opts.Layout != volume.LayoutAligned {
		m.NoImageVolume = fmt.Sprintf("volumes of layout %s cannot be merged", opts.Layout)
		return nil
	}
	out, err := tempFile(opts.TempDir)
	if err != nil {
		return err
	}
	defer out.Close()
	layers := make([]volume.Layer, len(stack))
	for i, l := range stack {
		layers[i] = volume.Layer{File: measured[l.DiffID].file, RootHash: l.Verity.RootHash}
	}
	d, _, err := volume.Merge(ctx, out, layers)
	if err != nil {
		return err
	}
	v := newVolume(d)
	m.ImageVolume = &v
	return nil
}

// tempFile makes a file that is gone when it is closed.
func tempFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "crio-erofs-measure-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
