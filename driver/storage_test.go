package driver_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/archive"
	"github.com/opencontainers/go-digest"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// TestStorage walks through the life of an image and its containers as CRI-O does, through containers/storage.
func TestStorage(t *testing.T) {
	needRoot(t)
	for name, mode := range map[string]struct {
		place   func(testing.TB) string
		options []string
	}{
		"file":          {tempDir, nil},
		"loop":          {tempDir, []string{"erofs.mount=loop"}},
		"image volumes": {xfs, nil},
		"btrfs":         {btrfs, nil},
		"no trees":      {tmpfs, []string{"erofs.verity=off"}},
	} {
		t.Run(name, func(t *testing.T) { testStorage(t, mode.place(t), mode.options...) })
	}
}

// TestStorageTarfs needs Linux 6.4.
func TestStorageTarfs(t *testing.T) {
	needRoot(t)
	testStorage(t, tmpfs(t), "erofs.layout=tarfs")
}

func tempDir(t testing.TB) string { return t.TempDir() }

// openStorage opens a store in a directory. If that has a directory for images, images are there.
func openStorage(t *testing.T, dir string, options ...string) storage.Store {
	t.Helper()
	o := storage.StoreOptions{
		GraphRoot: filepath.Join(dir, "graph"), RunRoot: filepath.Join(dir, "run"), GraphDriverName: driver.Name,
		// As it is on OpenShift: storage.conf is overlay's.
		GraphDriverOptions: append([]string{"overlay.mountopt=nodev,metacopy=on"}, options...),
	}
	if images := filepath.Join(dir, "images"); exists(images) {
		o.ImageStore = images
	}
	s, err := storage.GetStore(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func testStorage(t *testing.T, dirName string, options ...string) {
	s := openStorage(t, dirName, options...)
	tars := [][]byte{
		makeTar(t, dir("etc"), file{name: "etc/passwd", content: "root:x:0:0\n"}, file{name: "etc/gone", content: "x"},
			dir("old"), file{name: "old/a", content: "a"}),
		makeTar(t, dir("etc"), file{name: "etc/.wh.gone"}, dir("old"), file{name: "old/.wh..wh..opq"},
			file{name: "old/b", content: "b"}),
	}
	top := putLayers(t, s, tars)
	image, err := s.CreateImage("", []string{"example/app:1"}, top, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, layer := range layersOf(t, s, top) {
		checkTar(t, s, layer, tars[i])
	}

	container, err := s.CreateContainer("", nil, image.ID, "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	root := mountContainer(t, s, container.ID)
	want := "/etc d---------\n/etc/passwd ---------- root:x:0:0\n\n/old d---------\n/old/b ---------- b"
	if got := tree(t, root); got != want {
		t.Errorf("container has\n%s\nwant\n%s", got, want)
	}
	checkManifest(t, root, 2)
	if err = os.WriteFile(filepath.Join(root, "etc/new"), []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err = os.Remove(filepath.Join(root, "old/b")); err != nil {
		t.Fatal(err)
	}
	committed := commit(t, s, container.LayerID, top)

	// The store is opened anew while the container is mounted, as when CRI-O restarts.
	s.Free()
	s = openStorage(t, dirName, options...)
	if b, err := os.ReadFile(filepath.Join(root, "etc/new")); err != nil || string(b) != "new" {
		t.Errorf("after a restart: %q, %v", b, err)
	}
	if _, err := s.Unmount(container.ID, false); err != nil {
		t.Fatal(err)
	}
	again, err := s.CreateContainer("", nil, committed, "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	root = mountContainer(t, s, again.ID)
	want = "/etc d---------\n/etc/new ---------- new\n/etc/passwd ---------- root:x:0:0\n\n/old d---------"
	if got := tree(t, root); got != want {
		t.Errorf("container of the committed image has\n%s\nwant\n%s", got, want)
	}
	checkManifest(t, root, 3)
	report, err := s.Check(storage.CheckEverything())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(report.Layers) + len(report.Images) + len(report.Containers); n != 0 {
		t.Errorf("containers/storage finds %d things damaged: %+v", n, report)
	}
	deleteAll(t, s, []string{again.ID, container.ID}, []string{committed, image.ID})
	graph := filepath.Join(dirName, "graph")
	for _, sub := range []string{"layers", "volumes", "mounts", "tmp"} {
		wantNames(t, graph, sub, 0)
	}
	if _, err := s.Shutdown(true); err != nil {
		t.Fatal(err)
	}
}

func putLayers(t *testing.T, s storage.Store, tars [][]byte) (top string) {
	t.Helper()
	return putLayersOn(t, s, "", tars)
}

func putLayersOn(t *testing.T, s storage.Store, top string, tars [][]byte) string {
	t.Helper()
	for _, b := range tars {
		layer, _, err := s.PutLayer("", top, nil, "", false, nil, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if want := digest.FromBytes(b); layer.UncompressedDigest != want {
			t.Errorf("diffID %s, want %s", layer.UncompressedDigest, want)
		}
		top = layer.ID
	}
	return top
}

// layersOf returns a layer and its ancestors, the lowest first.
func layersOf(t *testing.T, s storage.Store, id string) []string {
	t.Helper()
	var ids []string
	for id != "" {
		l, err := s.Layer(id)
		if err != nil {
			t.Fatal(err)
		}
		ids = append([]string{id}, ids...)
		id = l.Parent
	}
	return ids
}

// checkTar compares the layer's diff, as a push sends it, with the tar that was pulled.
func checkTar(t *testing.T, s storage.Store, id string, want []byte) {
	t.Helper()
	none := archive.Uncompressed
	r, err := s.Diff("", id, &storage.DiffOptions{Compression: &none})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("layer %s is pushed as another tar than it was pulled as", id)
	}
}

func mountContainer(t *testing.T, s storage.Store, id string) string {
	t.Helper()
	root, err := s.Mount(id, "")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// checkManifest reads a container's manifest and the volumes that it names.
func checkManifest(t *testing.T, root string, volumes int) {
	t.Helper()
	m, err := volume.ReadManifest(root)
	if err != nil {
		t.Fatal(err)
	}
	if m.Refusal != "" || len(m.Volumes) != volumes {
		t.Errorf("manifest has %d volumes and refusal %q, want %d and none", len(m.Volumes), m.Refusal, volumes)
	}
	for _, v := range m.Volumes {
		fi, err := os.Stat(v.Path)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Size() != v.Size {
			t.Errorf("%s has %d bytes, the manifest says %d", v.Path, fi.Size(), v.Size)
		}
	}
}

// commit makes an image of a container's changes, as CRI-O and podman do.
func commit(t *testing.T, s storage.Store, layer, parent string) (image string) {
	t.Helper()
	r, err := s.Diff("", layer, nil)
	if err != nil {
		t.Fatal(err)
	}
	// In memory, because the store is locked until the stream is closed.
	diff, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	l, _, err := s.PutLayer("", parent, nil, "", false, nil, bytes.NewReader(diff))
	if err != nil {
		t.Fatal(err)
	}
	i, err := s.CreateImage("", nil, l.ID, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return i.ID
}

func deleteAll(t *testing.T, s storage.Store, containers, images []string) {
	t.Helper()
	for _, id := range containers {
		if _, err := s.Unmount(id, true); err != nil {
			t.Error(err)
		}
		if err := s.DeleteContainer(id); err != nil {
			t.Error(err)
		}
	}
	for _, id := range images {
		if _, err := s.DeleteImage(id, true); err != nil {
			t.Error(err)
		}
	}
	if err := settle(s); err != nil {
		t.Error(err)
	}
}
