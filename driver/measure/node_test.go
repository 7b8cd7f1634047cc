package measure_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containers/image/v5/docker"
	ocilayout "github.com/containers/image/v5/oci/layout"
	imagestorage "github.com/containers/image/v5/storage"
	"github.com/containers/image/v5/types"
	"github.com/containers/storage"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/measure/source"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/imagecopy"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// TestNode pulls every test image into a store as CRI-O does, and holds what the driver made against what measuring says:
// of the registry's image, and of the same image in every other transport.
func TestNode(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the driver needs root")
	}
	registry, err := env.StartRegistry(t.Context(), t.TempDir())
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(registry.Stop)
	cache, err := env.Cache()
	if err != nil {
		t.Fatal(err)
	}
	store := openStore(t)
	// Debian's 10 GiB of sparse files take minutes through tar-split and docker-registry: see TestDriver.
	for _, img := range []images.Image{images.Pause, images.Small} {
		t.Run(img.Name, func(t *testing.T) {
			ref, err := img.Push(t.Context(), cache, registry.Address)
			if err != nil {
				t.Fatal(err)
			}
			manifest := pull(t, store, ref)
			layout := filepath.Join(cache, "images", img.Name+"-"+img.Version)
			names := append(otherTransports(t, img, cache, layout),
				"docker://"+ref, "oci:"+layout, storageName(store, ref))
			for _, name := range names {
				t.Run(strings.SplitN(name, ":", 2)[0], func(t *testing.T) {
					checkNode(t, manifest, measureOne(t, name, source.Options{}, measure.Options{}))
				})
			}
		})
	}
}

// checkNode holds a container's manifest against a measurement.
func checkNode(t *testing.T, m *volume.Manifest, got *measure.Measurement) {
	t.Helper()
	stack := got.Stack()
	if len(stack) != len(m.Volumes) {
		t.Fatalf("%d volumes measured, the node has %d", len(stack), len(m.Volumes))
	}
	for i, v := range m.Volumes {
		want := measure.Layer{Digest: stack[i].Digest, DiffID: v.DiffID, Volume: measure.Volume{Size: v.Size, Verity: *v.Verity}}
		if !reflect.DeepEqual(stack[i], want) {
			t.Errorf("volume %d: measured %+v, the node has %+v", i, stack[i], want)
		}
		if got.Layout != v.Layout || got.FormatVersion != v.FormatVersion {
			t.Errorf("volume %d: measured %s, %d; the node has %s, %d", i, got.Layout, got.FormatVersion, v.Layout, v.FormatVersion)
		}
	}
	if !reflect.DeepEqual(got.DiffIDs(), m.DiffIDs) && m.DiffIDs != nil {
		t.Errorf("diffIDs measured %v, the node has %v", got.DiffIDs(), m.DiffIDs)
	}
	checkImageVolume(t, m, got)
}

// checkImageVolume holds the measured image volume against the node's, or else against one merged of the node's volumes.
func checkImageVolume(t *testing.T, m *volume.Manifest, got *measure.Measurement) {
	t.Helper()
	if got.ImageVolume == nil {
		if got.Layout == volume.LayoutAligned || m.Image != nil {
			t.Fatalf("no image volume: %s; the node has %+v", got.NoImageVolume, m.Image)
		}
		return
	}
	want := m.Image
	if want == nil {
		want = &volume.ManifestVolume{Description: *merge(t, m.Volumes)}
	}
	if got.ImageVolume.Size != want.Size || got.ImageVolume.Verity != *want.Verity {
		t.Errorf("image volume measured %+v, the node has %d, %+v", got.ImageVolume, want.Size, *want.Verity)
	}
}

func merge(t *testing.T, volumes []volume.ManifestVolume) *volume.Description {
	t.Helper()
	if len(volumes) == 1 {
		return &volumes[0].Description
	}
	layers := make([]volume.Layer, len(volumes))
	for i, v := range volumes {
		f, err := os.Open(v.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		layers[i].File = f
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	d, _, err := volume.Merge(t.Context(), out, layers)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func openStore(t *testing.T) storage.Store {
	t.Helper()
	dir := t.TempDir()
	store, err := storage.GetStore(storage.StoreOptions{
		GraphRoot: filepath.Join(dir, "graph"), RunRoot: filepath.Join(dir, "run"), GraphDriverName: driver.Name,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := store.Shutdown(true); err != nil {
			t.Error(err)
		}
	})
	return store
}

var plainHTTP = &types.SystemContext{DockerInsecureSkipTLSVerify: types.OptionalBoolTrue}

// pull puts a registry's image into the store and returns the manifest of a container of it.
func pull(t *testing.T, store storage.Store, ref string) *volume.Manifest {
	t.Helper()
	from, err := docker.ParseReference("//" + ref)
	if err != nil {
		t.Fatal(err)
	}
	to, err := imagestorage.Transport.ParseStoreReference(store, ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := imagecopy.Copy(t.Context(), to, from, plainHTTP); err != nil {
		t.Fatal(err)
	}
	c, err := store.CreateContainer("", nil, ref, "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	mountPoint, err := store.Mount(c.ID, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := store.Unmount(c.ID, true); err != nil {
			t.Error(err)
		}
	})
	m, err := volume.ReadManifest(mountPoint)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func storageName(store storage.Store, ref string) string {
	return fmt.Sprintf("containers-storage:[%s@%s+%s]%s", store.GraphDriverName(), store.GraphRoot(), store.RunRoot(), ref)
}

// otherTransports stores the image of an OCI layout in all ways that there are, and returns the names.
func otherTransports(t *testing.T, img images.Image, cache, layout string) []string {
	t.Helper()
	dir := t.TempDir()
	names := []string{"dir:" + filepath.Join(dir, "dir"), "oci-archive:" + filepath.Join(dir, "oci.tar")}
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	from, err := ocilayout.ParseReference(layout)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		to, err := source.ParseName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := imagecopy.Copy(t.Context(), to, from, plainHTTP); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	built, err := img.Build(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("example.com/image:1")
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "docker.tar")
	if err := tarball.WriteToFile(archive, tag, built); err != nil {
		t.Fatal(err)
	}
	return append(names, "docker-archive:"+archive)
}

func measureOne(t *testing.T, name string, from source.Options, opts measure.Options) *measure.Measurement {
	t.Helper()
	m, err := measureName(t.Context(), name, from, opts)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func measureName(ctx context.Context, name string, from source.Options, opts measure.Options) (*measure.Measurement, error) {
	if from.System == nil {
		from.System = plainHTTP
	}
	src, err := source.Open(ctx, name, from)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	return measure.Measure(ctx, src.Images[0], opts)
}
