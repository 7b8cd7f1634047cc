package driver_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	graphdriver "github.com/containers/storage/drivers"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// sharedDriver makes a store with an image, and another that has it as additional image store.
func sharedDriver(t *testing.T, shared, own string) (d graphdriver.Driver, top string) {
	t.Helper()
	other := reopen(t, shared)
	top = pull(t, other, "image", imageLayers(t)...)
	return reopen(t, own, "erofs.imagestore="+shared), top
}

// TestForeignImageAgain damages the image volume that two containers of a foreign image hold: both get the new one.
func TestForeignImageAgain(t *testing.T) {
	needRoot(t)
	base := xfs(t)
	shared, own := filepath.Join(base, "shared"), filepath.Join(base, "own")
	for _, dir := range []string{shared, own} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	d, top := sharedDriver(t, shared, own)
	for _, id := range []string{"c1", "c2"} {
		m := start(t, d, id, top)
		if m.Image == nil {
			t.Fatal(m.NoImage)
		}
		put(t, d, id)
		if id == "c2" {
			if err := os.Truncate(m.Image.Path, 4096); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, id := range []string{"c1", "c2"} {
		m, err := volume.ReadManifest(get(t, d, id))
		if err != nil {
			t.Fatal(err)
		}
		if m.Image == nil {
			t.Errorf("%s has no image volume: %s", id, m.NoImage)
			continue
		}
		checkImageTree(t, m)
		checkFile(t, m.Image)
	}
	for _, id := range []string{"c1", "c2"} {
		put(t, d, id)
		remove(t, d, id)
	}
	for _, sub := range []string{"volumes", "layers", "tmp"} {
		wantNames(t, own, sub, 0)
	}
}

// TestForeignLeftover pulls a layer whose volume an additional image store has, too, after a removal of ours that did
// not get to its end.
func TestForeignLeftover(t *testing.T) {
	needRoot(t)
	shared, own := t.TempDir(), t.TempDir()
	layer := makeTar(t, file{name: "a", content: "a"})
	apply(t, reopen(t, shared), "base", "", layer)
	d := reopen(t, own, "erofs.imagestore="+shared)
	for _, restart := range []bool{false, true} {
		apply(t, d, "mine", "", layer)
		meta, err := d.Metadata("mine")
		if err != nil {
			t.Fatal(err)
		}
		// As a crash within Remove leaves it.
		for _, path := range []string{filepath.Join(driver.Home(d), "layers", "mine"), meta["Volume"]} {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
		if restart {
			d = reopen(t, own, "erofs.imagestore="+shared)
			wantNames(t, own, "volumes", 0)
		}
		apply(t, d, "mine", "", layer)
		remove(t, d, "mine")
		wantNames(t, own, "volumes", 0)
	}
}

// TestForeignNoImage has an image on another file system whose volumes our own store happens to have as well. The
// manifest names the other store's, so no blocks can be shared.
func TestForeignNoImage(t *testing.T) {
	needRoot(t)
	d, top := sharedDriver(t, ext4(t), xfs(t))
	pull(t, d, "mine", imageLayers(t)...)
	m := start(t, d, "c", top)
	if m.Image != nil || !strings.Contains(m.NoImage, "on another file system") {
		t.Errorf("image volume %+v, %q", m.Image, m.NoImage)
	}
}

// TestForeignDirectory asks for the usage of another store's layer that is a directory.
func TestForeignDirectory(t *testing.T) {
	needRoot(t)
	shared := t.TempDir()
	other := reopen(t, shared)
	if err := other.Create("dir", "", nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(get(t, other, "dir"), "f"), []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, other, "dir")
	d, _ := newDriver(t, "erofs.imagestore="+shared)
	want, err := other.ReadWriteDiskUsage("dir")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.ReadWriteDiskUsage("dir"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("usage %v, %v; want %v", got, err, want)
	}
}

// TestForeignHalfRemoved has a layer of ours that a crash has removed in part, and that an additional image store has,
// too.
func TestForeignHalfRemoved(t *testing.T) {
	needRoot(t)
	shared, own := t.TempDir(), t.TempDir()
	apply(t, reopen(t, shared), "base", "", makeTar(t, file{name: "a", content: "a"}))
	d := reopen(t, own)
	for _, byHand := range []bool{false, true} {
		apply(t, d, "base", "", makeTar(t, file{name: "b", content: "another volume"}))
		if err := os.Remove(filepath.Join(driver.Home(d), "layers", "base", "layer.json")); err != nil {
			t.Fatal(err)
		}
		if byHand {
			remove(t, d, "base")
		} else {
			d = reopen(t, own, "erofs.imagestore="+shared)
		}
		wantNames(t, own, "layers", 0)
		wantNames(t, own, "volumes", 0)
	}
}
