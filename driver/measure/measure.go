package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// Image is an image that is to be measured.
type Image struct {
	Name           string
	ManifestDigest string
	ManifestType   string
	ManifestSize   int64
	ConfigDigest   string
	Platform       string
	Layers         []Blob // lowest first

	// OneByOne is set if layers can only be read one after another.
	OneByOne bool
}

// Blob is a layer of an image.
type Blob struct {
	Digest string // as the manifest has it
	DiffID string // as the image's configuration has it

	// Open returns the layer's uncompressed tar. A blob that is not what Digest says makes its Read fail at the end.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Options say how to measure. The zero value is fine.
type Options struct {
	Layout volume.Layout // empty: volume.LayoutAligned

	// Jobs is how many layers are read at the same time; 0: as many as there are processors, and at most 4.
	Jobs int

	// TempDir is where files without a name are made for what does not fit in memory; empty: the system's.
	TempDir string
}

func (o *Options) fill() error {
	if o.Layout == "" {
		o.Layout = volume.LayoutAligned
	}
	if o.Jobs == 0 {
		o.Jobs = min(4, runtime.GOMAXPROCS(0))
	}
	if o.Jobs < 0 {
		return fmt.Errorf("%d jobs", o.Jobs)
	}
	_, err := volume.ParseLayout(string(o.Layout))
	return err
}

// Measure reads the layers of an image and says which volumes they become.
func Measure(ctx context.Context, img *Image, opts Options) (_ *Measurement, err error) {
	if err := opts.fill(); err != nil {
		return nil, err
	}
	if len(img.Layers) == 0 {
		return nil, errors.New("the image has no layers: there is nothing to measure")
	}
	measured, err := measureLayers(ctx, img, opts)
	defer func() {
		for _, l := range measured {
			err = errors.Join(err, l.close())
		}
	}()
	if err != nil {
		return nil, err
	}
	m := &Measurement{
		Version: Version, Image: img.Name, ManifestDigest: img.ManifestDigest,
		ManifestType: img.ManifestType, ManifestSize: img.ManifestSize, ConfigDigest: img.ConfigDigest,
		Platform: img.Platform, Layout: opts.Layout, FormatVersion: opts.Layout.FormatVersion(),
	}
	for _, b := range img.Layers {
		m.Layers = append(m.Layers, Layer{Digest: b.Digest, DiffID: b.DiffID, Volume: measured[b.DiffID].volume})
	}
	m.markCopies()
	if err := m.measureImage(ctx, measured, opts); err != nil {
		return nil, fmt.Errorf("image volume: %w", err)
	}
	return m, m.Check()
}

// measureLayers measures every layer once and returns the results by diffID, also those that there are on an error.
func measureLayers(ctx context.Context, img *Image, opts Options) (map[string]*measuredLayer, error) {
	if img.OneByOne {
		opts.Jobs = 1
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(opts.Jobs)
	results := make(map[string]*measuredLayer, len(img.Layers))
	for i, b := range img.Layers {
		if results[b.DiffID] != nil {
			continue
		}
		result := &measuredLayer{}
		results[b.DiffID] = result
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := result.measure(ctx, b, opts); err != nil {
				return fmt.Errorf("layer %d (%s): %w", i, b.Digest, err)
			}
			return nil
		})
	}
	return results, group.Wait()
}

// contextReader makes a long read end when it is no longer wanted.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

func newVolume(d *volume.Description) Volume { return Volume{Size: d.Size, Verity: *d.Verity} }
