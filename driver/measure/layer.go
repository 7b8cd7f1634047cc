package measure

import (
	"context"
	"errors"
	"fmt"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// measuredLayer is a layer whose volume is known, and what is needed to know the volume of its image.
type measuredLayer struct {
	volume Volume
	kept   *volume.Measured
}

func (l *measuredLayer) measure(ctx context.Context, b Blob, opts Options) (err error) {
	tar, err := b.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tar.Close()) }()
	d, kept, err := volume.Measure(contextReader{ctx, tar}, volume.BuildOptions{Layout: opts.Layout}, opts.TempDir)
	if err != nil {
		return err
	}
	l.kept = kept
	if d.DiffID != b.DiffID {
		return fmt.Errorf("its tar has digest %s, but the image's configuration says %s: the registry or the image is "+
			"not what it claims; do not use it", d.DiffID, b.DiffID)
	}
	l.volume = newVolume(d)
	return nil
}

func (l *measuredLayer) close() error {
	if l.kept == nil {
		return nil
	}
	return l.kept.Close()
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
	layers := make([]*volume.Measured, len(stack))
	for i, l := range stack {
		layers[i] = measured[l.DiffID].kept
	}
	d, err := volume.MeasureImage(ctx, layers)
	if err != nil {
		return err
	}
	v := newVolume(d)
	m.ImageVolume = &v
	return nil
}
