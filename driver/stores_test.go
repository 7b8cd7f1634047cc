package driver_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"testing"

	"github.com/containers/storage"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// sharedStore makes a store with an image of two layers and returns its graph root, mounted read-only, and the tars.
func sharedStore(t *testing.T, base string) (root, image string, tars [][]byte) {
	t.Helper()
	made := filepath.Join(base, "shared")
	s := openStorageAt(t, made)
	tars = [][]byte{
		makeTar(t, file{name: "below", content: "below"}, file{name: "gone", content: "x"}),
		makeTar(t, file{name: "above", content: "above"}, file{name: ".wh.gone"}),
	}
	i, err := s.CreateImage("", []string{"example/shared:1"}, putLayers(t, s, tars), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Shutdown(true); err != nil {
		t.Fatal(err)
	}
	root = filepath.Join(base, "readonly")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(filepath.Join(made, "graph"), root, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", root, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	return root, i.ID, tars
}

func openStorageAt(t *testing.T, dir string, options ...string) storage.Store {
	t.Helper()
	s, err := storage.GetStore(storage.StoreOptions{
		GraphRoot: filepath.Join(dir, "graph"), RunRoot: filepath.Join(dir, "run"), GraphDriverName: driver.Name,
		GraphDriverOptions: options,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// allFiles lists all that is below a directory.
func allFiles(t *testing.T, root string) []string {
	t.Helper()
	var list []string
	err := filepath.Walk(root, func(path string, fi os.FileInfo, err error) error {
		if err == nil {
			list = append(list, path+" "+fi.ModTime().String())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(list)
	return list
}

// TestImageStore runs containers of an image in another store, which is read-only: with its volumes where they are, and
// with an image volume in our own store.
func TestImageStore(t *testing.T) {
	needRoot(t)
	for name, c := range map[string]struct {
		place   func(testing.TB) string
		options []string
		images  int // image volumes in our own store
	}{
		"layers":  {ext4, nil, 0},
		"reflink": {xfs, nil, 1},
		"copy":    {ext4, []string{"erofs.image_volume=copy"}, 1},
		"loop":    {ext4, []string{"erofs.mount=loop"}, 0},
	} {
		t.Run(name, func(t *testing.T) { testImageStore(t, c.place(t), c.images, c.options) })
	}
}

// TestImageStoreInBackground has a container get the image volume that was made for an earlier one.
func TestImageStoreInBackground(t *testing.T) {
	needRoot(t)
	base := ext4(t)
	root, image, _ := sharedStore(t, base)
	own := filepath.Join(base, "own")
	s := openStorageAt(t, own, "erofs.image_volume=background", "erofs.imagestore="+root)
	d, err := s.GraphDriver()
	if err != nil {
		t.Fatal(err)
	}
	var containers []string
	for i := range 3 {
		c, err := s.CreateContainer("", nil, image, "", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		containers = append(containers, c.ID)
		m, err := volume.ReadManifest(mountContainer(t, s, c.ID))
		if err != nil {
			t.Fatal(err)
		}
		if (m.Image != nil) != (i > 0) {
			t.Errorf("container %d has image volume %+v, because %q", i, m.Image, m.NoImage)
		}
		driver.FinishAside(d)
	}
	wantNames(t, filepath.Join(own, "graph"), "volumes", 1)
	deleteAll(t, s, containers, nil)
	wantNames(t, filepath.Join(own, "graph"), "volumes", 0)
	if _, err := s.Shutdown(true); err != nil {
		t.Fatal(err)
	}
}

func testImageStore(t *testing.T, base string, images int, options []string) {
	root, image, tars := sharedStore(t, base)
	before := allFiles(t, root)
	options = append(options, "erofs.imagestore="+root)
	own := filepath.Join(base, "own")
	s := openStorageAt(t, own, options...)
	top, err := s.Image(image)
	if err != nil {
		t.Fatal(err)
	}
	for i, layer := range layersOf(t, s, top.TopLayer) {
		checkTar(t, s, layer, tars[i])
	}
	var containers []string
	for range 2 {
		c, err := s.CreateContainer("", nil, "example/shared:1", "", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		containers = append(containers, c.ID)
		mounted := mountContainer(t, s, c.ID)
		if got, want := tree(t, mounted), "/above ---------- above\n/below ---------- below"; got != want {
			t.Errorf("container has %q", got)
		}
		checkManifest(t, mounted, 2)
		m, err := volume.ReadManifest(mounted)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range m.Volumes {
			if !strings.HasPrefix(v.Path, root+"/erofs/volumes/") || v.Inode == 0 {
				t.Errorf("volume %+v", v)
			}
		}
		if (m.Image != nil) != (images > 0) || m.Image == nil && m.NoImage == "" {
			t.Errorf("image volume %+v, %q", m.Image, m.NoImage)
		}
		if m.Image != nil && !strings.HasPrefix(m.Image.Path, own) {
			t.Errorf("image volume is in %s", m.Image.Path)
		}
		if err := os.WriteFile(filepath.Join(mounted, "below"), []byte("changed"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantNames(t, filepath.Join(own, "graph"), "volumes", images)

	// A restart spares what containers need, and what was pulled into the own store goes on top of the other's layers.
	mounts := len(mountsIn(t, filepath.Join(own, "graph"), "mounts"))
	s.Free()
	s = openStorageAt(t, own, options...)
	if n := len(mountsIn(t, filepath.Join(own, "graph"), "mounts")); n != mounts || n == 0 {
		t.Errorf("%d host mounts after a restart, %d before", n, mounts)
	}
	c, err := s.Container(containers[0])
	if err != nil {
		t.Fatal(err)
	}
	committed := commit(t, s, c.LayerID, top.TopLayer)
	again, err := s.CreateContainer("", nil, committed, "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	checkReader(t, s, filepath.Join(own, "graph"), root, committed)
	got, want := tree(t, mountContainer(t, s, again.ID)), "/above ---------- above\n/below ---------- changed"
	if got != want {
		t.Errorf("container of the committed image has %q", got)
	}
	deleteAll(t, s, append(containers, again.ID), nil)
	// containers/storage deletes our layers, and then stumbles over the parent that is not ours.
	if _, err := s.DeleteImage(committed, true); err != nil && !errors.Is(err, storage.ErrLayerUnknown) {
		t.Error(err)
	}
	for _, sub := range []string{"layers", "volumes", "tmp"} {
		wantNames(t, filepath.Join(own, "graph"), sub, 0)
	}
	if n := len(mountsIn(t, filepath.Join(own, "graph"), "mounts")); n != 0 {
		t.Errorf("%d host mounts are left", n)
	}
	if _, err := s.Shutdown(true); err != nil {
		t.Fatal(err)
	}
	if after := allFiles(t, root); !reflect.DeepEqual(before, after) {
		t.Error("the other store was written to")
	}
}

// checkReader has an image described whose lower layers are in another store, as programs beside CRI-O see it.
func checkReader(t *testing.T, s storage.Store, graph, imageStore, image string) {
	t.Helper()
	i, err := s.Image(image)
	if err != nil {
		t.Fatal(err)
	}
	r, err := driver.NewReader(filepath.Join(graph, driver.Name), imageStore)
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.DescribeImage(i.TopLayer)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Volumes) != 3 || !strings.HasPrefix(m.Volumes[0].Path, imageStore) || !strings.HasPrefix(m.Volumes[2].Path, graph) {
		t.Errorf("the image is described as %+v", m)
	}
}

// TestBadImageStore wants what cannot be used refused with the way out.
func TestBadImageStore(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	d := reopen(t, root)
	newer := t.TempDir()
	if err := os.MkdirAll(filepath.Join(newer, driver.Name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(newer, driver.Name, "store.json"), []byte(`{"version":99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"relative": "absolute", "/nonexistent": "mount it", driver.Home(d) + "/..": "itself", newer: "version 99",
	} {
		if _, err := openDriver(root, "erofs.imagestore="+path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v; want %q", path, err, want)
		}
	}
	wantNames(t, newer, "", 1)
}
