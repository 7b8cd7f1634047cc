package driver_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containers/storage"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// oldStore says what is in a store that an earlier release has made (testdata/stores/make.sh).
type oldStore struct {
	options    []string // with which it is used
	containers []oldContainer
	volumes    int
}

// oldContainer is a container of an old store. Its image is called example/NAME:1.
type oldContainer struct {
	name     string
	volumes  int
	image    bool // it has an image volume
	writable bool // it has a disk for what is written in a VM
}

// TestOldStores opens stores of earlier releases: images are whole and pushed as they were pulled, containers have what
// they wrote, new containers start, and all can be removed. The same layers that are pulled now have volumes of another
// format version; an image of old layers and new ones is one.
func TestOldStores(t *testing.T) {
	needRoot(t)
	for file, old := range map[string]oldStore{
		"1-first": {nil, []oldContainer{{"plain", 2, false, false}}, 2},
		"2-second": {
			[]string{"erofs.image_volume=copy", "erofs.rw_layer=ext4", "erofs.rw_size=16M"},
			[]oldContainer{{"image", 2, true, true}, {"tarfs", 2, false, true}}, 5,
		},
	} {
		t.Run(file, func(t *testing.T) { testOldStore(t, file, old) })
	}
}

func testOldStore(t *testing.T, file string, old oldStore) {
	root := t.TempDir()
	graph := filepath.Join(root, "graph")
	archive := filepath.Join("testdata/stores", file+".tar.gz")
	run(t, "tar", "-x", "-C", root, "--xattrs", "--xattrs-include=*", "-f", archive)
	cleanUp(t, graph)
	var tars [][]byte
	for _, name := range []string{"layer0.tar", "layer1.tar"} {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		tars = append(tars, b)
	}
	s := openStorage(t, root, old.options...)
	wantDamage(t, s, 0, 0, 0)
	checkSound(t, graph)
	var containers, images []string
	for _, c := range old.containers {
		containers = append(containers, c.name, checkOldContainer(t, s, c))
		images = append(images, checkOldImage(t, s, "example/"+c.name+":1", tars))
	}
	wantNames(t, graph, "volumes", old.volumes)
	images = append(images, createImage(t, s, putLayers(t, s, tars)))
	wantNames(t, graph, "volumes", old.volumes+len(tars))
	mixed, volumes := checkMixedImage(t, s, old.containers[0], tars)
	containers, images = append(containers, mixed.ID), append(images, mixed.ImageID)
	wantNames(t, graph, "volumes", old.volumes+len(tars)+volumes)
	checkSound(t, graph)
	deleteAll(t, s, containers, images)
	for _, sub := range []string{"layers", "volumes", "mounts", "tmp"} {
		wantNames(t, graph, sub, 0)
	}
	if _, err := s.Shutdown(true); err != nil {
		t.Error(err)
	}
}

// checkOldContainer mounts a container and another one of the same image, and returns the other's id.
func checkOldContainer(t *testing.T, s storage.Store, c oldContainer) (another string) {
	t.Helper()
	const files = "\n/etc/passwd ---------- root:x:0:0\n\n/old d---------"
	old, err := s.Container(c.name)
	if err != nil {
		t.Fatal(err)
	}
	mounted := mountContainer(t, s, old.ID)
	if got, want := tree(t, mounted), "/etc d---------\n/etc/new ---------- new"+files; got != want {
		t.Errorf("%s has\n%s\nwant\n%s", c.name, got, want)
	}
	checkManifest(t, mounted, c.volumes)
	m, err := volume.ReadManifest(mounted)
	if err != nil {
		t.Fatal(err)
	}
	if (m.Image != nil) != c.image || (m.RWLayer != nil) != c.writable {
		t.Errorf("%s: image volume %+v (%q), writable layer %+v", c.name, m.Image, m.NoImage, m.RWLayer)
	}
	fresh, err := s.CreateContainer("", nil, old.ImageID, "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, mountContainer(t, s, fresh.ID)), "/etc d---------"+files+"\n/old/b ---------- b"; got != want {
		t.Errorf("a new container of %s has\n%s\nwant\n%s", c.name, got, want)
	}
	return fresh.ID
}

// checkMixedImage puts a new layer, which has the content of one that was pulled already, on a container's image and
// starts a container of it. It returns that, and how many volumes were made: one if containers have image volumes.
func checkMixedImage(t *testing.T, s storage.Store, on oldContainer, tars [][]byte) (*storage.Container, int) {
	t.Helper()
	image, err := s.Image("example/" + on.name + ":1")
	if err != nil {
		t.Fatal(err)
	}
	id := createImage(t, s, putLayersOn(t, s, image.TopLayer, tars[:1]))
	c, err := s.CreateContainer("", nil, id, "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := volume.ReadManifest(mountContainer(t, s, c.ID))
	if err != nil {
		t.Fatal(err)
	}
	var versions []int
	for _, v := range m.Volumes {
		versions = append(versions, v.FormatVersion)
	}
	if want := []int{1, 1, 2}; !slices.Equal(versions, want) {
		t.Errorf("format versions %v, want %v", versions, want)
	}
	if (m.Image != nil) != on.image {
		t.Fatalf("image volume %+v (%q)", m.Image, m.NoImage)
	}
	if m.Image == nil {
		return c, 0
	}
	if m.Image.FormatVersion != 2 {
		t.Errorf("the image volume has format version %d", m.Image.FormatVersion)
	}
	return c, 1
}

// checkOldImage compares an image's layers with what they were made of, and returns the image's id.
func checkOldImage(t *testing.T, s storage.Store, name string, tars [][]byte) (id string) {
	t.Helper()
	id, err := s.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	image, err := s.Image(id)
	if err != nil {
		t.Fatal(err)
	}
	layers := layersOf(t, s, image.TopLayer)
	if len(layers) != len(tars) {
		t.Fatalf("%s has the layers %v", name, layers)
	}
	for i, layer := range layers {
		checkTar(t, s, layer, tars[i])
	}
	return id
}
