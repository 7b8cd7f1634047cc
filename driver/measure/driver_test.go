package measure_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	graphdriver "github.com/containers/storage/drivers"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/measure/source"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// TestDriver gives the layers of every test image to the driver and holds what it made against what measuring says.
func TestDriver(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the driver needs root")
	}
	cache, err := env.Cache()
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range images.All() {
		t.Run(img.Name, func(t *testing.T) {
			if _, err := img.Build(t.Context(), cache); err != nil {
				t.Fatal(err)
			}
			name := "oci:" + filepath.Join(cache, "images", img.Name+"-"+img.Version)
			for _, layout := range volume.Layouts {
				t.Run(string(layout), func(t *testing.T) {
					got := measureOne(t, name, source.Options{}, measure.Options{Layout: layout})
					checkNode(t, applyLayers(t, name, layout), got)
				})
			}
		})
	}
}

// applyLayers gives an image's layers to a driver of its own and returns the manifest of a container of it.
func applyLayers(t *testing.T, name string, layout volume.Layout) *volume.Manifest {
	t.Helper()
	d, err := driver.Init(filepath.Join(t.TempDir(), "erofs"), graphdriver.Options{
		DriverOptions: []string{"erofs.layout=" + string(layout)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	src, err := source.Open(t.Context(), name, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	parent := ""
	for i, l := range src.Images[0].Layers {
		id := fmt.Sprintf("layer%d", i)
		if err := d.Create(id, parent, nil); err != nil {
			t.Fatal(err)
		}
		r, err := l.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.ApplyDiff(id, parent, graphdriver.ApplyDiffOpts{Diff: r}); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		parent = id
	}
	if err := d.CreateReadWrite("container", parent, nil); err != nil {
		t.Fatal(err)
	}
	mountPoint, err := d.Get("container", graphdriver.MountOpts{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Put("container"); err != nil {
			t.Error(err)
		}
	})
	m, err := volume.ReadManifest(mountPoint)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
