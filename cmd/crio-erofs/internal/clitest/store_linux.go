package clitest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containers/storage"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"github.com/crio-erofs/crio-erofs/driver"
)

// Store makes a store with images, which are called example.com/app:1, example.com/app:2 and so on, and leaves it open,
// as beside CRI-O. It needs root.
func Store(t *testing.T, images ...v1.Image) storage.Store {
	t.Helper()
	return store(t, storage.StoreOptions{}, images)
}

// SplitStore is like Store, and images are apart from containers.
func SplitStore(t *testing.T, images ...v1.Image) storage.Store {
	t.Helper()
	return store(t, storage.StoreOptions{ImageStore: t.TempDir()}, images)
}

// Split opens a store anew, with images apart from containers from now on, and puts an image there.
func Split(t *testing.T, old storage.Store, img v1.Image, name string) storage.Store {
	t.Helper()
	if _, err := old.Shutdown(true); err != nil {
		t.Fatal(err)
	}
	old.Free() // or containers/storage would hand out the same once more
	s := open(t, storage.StoreOptions{GraphRoot: old.GraphRoot(), RunRoot: old.RunRoot(), ImageStore: t.TempDir()})
	addImage(t, s, img, name)
	return s
}

func store(t *testing.T, o storage.StoreOptions, images []v1.Image) storage.Store {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the driver needs root")
	}
	dir := t.TempDir()
	o.GraphRoot, o.RunRoot = filepath.Join(dir, "graph"), filepath.Join(dir, "run")
	store := open(t, o)
	for i, img := range images {
		addImage(t, store, img, fmt.Sprintf("example.com/app:%d", i+1))
	}
	return store
}

// open opens a store until the end of the test.
func open(t *testing.T, o storage.StoreOptions) storage.Store {
	t.Helper()
	o.GraphDriverName = driver.Name
	o.GraphDriverOptions = []string{"erofs.image_volume=copy"}
	store, err := storage.GetStore(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		containers, err := store.Containers()
		if err != nil {
			t.Error(err)
		}
		for _, c := range containers {
			if _, err := store.Unmount(c.ID, true); err != nil {
				t.Error(err)
			}
		}
		if _, err := store.Shutdown(true); err != nil {
			t.Error(err)
		}
	})
	return store
}

// addImage puts an image into a store, as a pull does. Layers that are there are shared.
func addImage(t *testing.T, store storage.Store, img v1.Image, name string) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	top := ""
	for _, l := range layers {
		diffID, err := l.DiffID()
		if err != nil {
			t.Fatal(err)
		}
		id := digest.Canonical.FromString(top + diffID.String()).Encoded()
		if store.Exists(id) {
			top = id
			continue
		}
		tar, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := store.PutLayer(id, top, nil, "", false, nil, tar); err != nil {
			t.Fatal(err)
		}
		top = id
	}
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.CreateImage(config.Hex, []string{name}, top, "", nil); err != nil {
		t.Fatal(err)
	}
}
