package driver_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	graphdriver "github.com/containers/storage/drivers"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	fstest "github.com/crio-erofs/crio-erofs/test/tree"
)

// xfs makes a file system that can share blocks between files.
func xfs(t testing.TB) string {
	t.Helper()
	fstest.RequireTool(t, "mkfs.xfs")
	return fstest.FileSystem(t, 400<<20, "mkfs.xfs", "-q", "-m", "reflink=1")
}

// btrfs makes another one.
func btrfs(t testing.TB) string {
	t.Helper()
	fstest.RequireTool(t, "mkfs.btrfs")
	return fstest.FileSystem(t, 400<<20, "mkfs.btrfs", "-q")
}

// ext4 makes a file system that cannot.
func ext4(t testing.TB) string {
	t.Helper()
	fstest.RequireTool(t, "mkfs.ext4")
	return fstest.FileSystem(t, 256<<20, "mkfs.ext4", "-q")
}

// twoDisks makes a root that has images on a file system of their own.
func twoDisks(t testing.TB) string {
	t.Helper()
	root, disk := ext4(t), xfs(t)
	images := filepath.Join(root, imagesDir)
	if err := os.Mkdir(images, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(disk, images, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(images, 0); err != nil {
			t.Errorf("unmount %s: %v", images, err)
		}
	})
	// Or what is mounted there would be so on the disk's other mount, too.
	if err := unix.Mount("", images, "", unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	return root
}

// tmpfs makes a file system whose files the kernel mounts through loop devices only.
func tmpfs(t testing.TB) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// imageLayers are those of an image with deletions and a layer that is there twice.
func imageLayers(t testing.TB) [][]byte {
	twice := makeTar(t, file{name: "both", content: "twice"})
	return [][]byte{
		makeTar(t, dir("d"), file{name: "d/old", content: "1"}, file{name: "gone", content: "2"}),
		twice,
		makeTar(t, file{name: ".wh.gone"}, dir("d"), file{name: "d/new", content: strings.Repeat("x", 10000)}),
		twice,
	}
}

// pull makes an image of these layers and returns its top layer.
func pull(t testing.TB, d graphdriver.Driver, name string, layers ...[]byte) (top string) {
	t.Helper()
	for i, layer := range layers {
		id := fmt.Sprintf("%s-%d", name, i)
		apply(t, d, id, top, layer)
		top = id
	}
	return top
}

// start makes a container, mounts it and returns its manifest.
func start(t testing.TB, d graphdriver.Driver, id, image string) *volume.Manifest {
	t.Helper()
	if err := d.CreateReadWrite(id, image, nil); err != nil {
		t.Fatal(err)
	}
	m, err := volume.ReadManifest(get(t, d, id))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func remove(t testing.TB, d graphdriver.Driver, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := d.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
}

const imageTree = "/both ---------- twice\n/d d---------\n/d/new ---------- "

func checkImageTree(t *testing.T, m *volume.Manifest) {
	t.Helper()
	want := imageTree + strings.Repeat("x", 10000) + "\n/d/old ---------- 1"
	if got := tree(t, m.MountPoint); got != want {
		t.Errorf("container %s shows\n%.300s\nwant\n%.300s", m.ID, got, want)
	}
}

// TestImageVolume has one mount for an image of several volumes, shared by all its containers, and nothing left of it
// when the image is gone.
func TestImageVolume(t *testing.T) {
	needRoot(t)
	root := xfs(t)
	d := reopen(t, root)
	top := pull(t, d, "image", imageLayers(t)...)
	wantNames(t, root, "volumes", 3)
	var first *volume.Manifest
	for _, id := range []string{"c1", "c2", "c3"} {
		m := start(t, d, id, top)
		checkImageTree(t, m)
		if m.Image == nil || m.NoImage != "" || len(m.Volumes) != 3 || len(m.DiffIDs) != 4 || m.Image.LayerID != top {
			t.Fatalf("manifest %+v; want an image volume of 3 volumes, of 4 layers", m)
		}
		if first == nil {
			first = m
		}
		if *m.Image.Verity != *first.Image.Verity || m.Image.FileID != first.Image.FileID {
			t.Errorf("%s has another image volume, %+v, than c1, %+v", id, m.Image, first.Image)
		}
		if got := mountsIn(t, root, "mounts"); len(got) != 1 {
			t.Errorf("%d host mounts, want that of the image volume only", len(got))
		}
	}
	wantNames(t, root, "volumes", 4)
	if meta, err := d.Metadata(top); err != nil || meta["ImageVolume"] != first.Image.Path {
		t.Errorf("metadata %v, %v; want the image volume %s", meta, err, first.Image.Path)
	}
	checkFile(t, first.Image)
	for _, v := range first.Volumes {
		checkFile(t, &v)
	}
	d = reopen(t, root) // what Init keeps
	wantNames(t, root, "volumes", 4)
	for _, id := range []string{"c1", "c2", "c3"} {
		if got := mountsIn(t, root, "mounts"); len(got) != 1 {
			t.Errorf("%d host mounts before %s goes, want 1", len(got), id)
		}
		put(t, d, id)
		remove(t, d, id)
	}
	if got := mountsIn(t, root, "mounts"); len(got) != 0 {
		t.Errorf("%d host mounts left", len(got))
	}
	remove(t, d, "image-3", "image-2", "image-1", "image-0")
	for _, sub := range []string{"volumes", "layers", "mounts", "tmp"} {
		wantNames(t, root, sub, 0)
	}
}

// checkFile wants a manifest's volume to be the file that it says and to fit its tree.
func checkFile(t *testing.T, v *volume.ManifestVolume) {
	t.Helper()
	f, err := os.Open(v.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if id, err := volume.FileIDOf(fi); err != nil || id != v.FileID {
		t.Errorf("%s is %+v, %v; the manifest says %+v", v.Path, id, err, v.FileID)
	}
	if _, err := volume.Verify(t.Context(), f, v.Size, v.Verity.RootHash, nil); err != nil {
		t.Error(err)
	}
	sidecar, err := os.Open(filepath.Join(filepath.Dir(v.Path), volume.VerityFileName))
	if err != nil {
		t.Fatal(err)
	}
	defer sidecar.Close()
	if err := volume.CheckVerityFile(sidecar, v.Verity); err != nil {
		t.Error(err)
	}
}

// TestImageVolumeAgain makes image volumes again that are damaged, lost or of a crash.
func TestImageVolumeAgain(t *testing.T) {
	needRoot(t)
	for name, spoil := range map[string]func(image *volume.ManifestVolume, layer string) error{
		"truncated": func(image *volume.ManifestVolume, _ string) error { return os.Truncate(image.Path, 4096) },
		"file lost": func(image *volume.ManifestVolume, _ string) error { return os.Remove(image.Path) },
		"volume lost": func(image *volume.ManifestVolume, _ string) error {
			return os.RemoveAll(filepath.Dir(image.Path))
		},
		"record lost":    func(_ *volume.ManifestVolume, layer string) error { return os.Remove(layer + "/image.json") },
		"record damaged": func(_ *volume.ManifestVolume, layer string) error { return os.Truncate(layer+"/image.json", 9) },
		"link lost":      func(_ *volume.ManifestVolume, layer string) error { return os.Remove(layer + "/image.erofs") },
		"of other volumes": func(_ *volume.ManifestVolume, layer string) error {
			b, err := os.ReadFile(layer + "/image.json")
			if err != nil {
				return err
			}
			return os.WriteFile(layer+"/image.json", []byte(strings.Replace(string(b), `"key":"`, `"key":"0`, 1)), 0o600)
		},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/restart=%v", name, restart), func(t *testing.T) {
				root := xfs(t)
				d := reopen(t, root)
				top := pull(t, d, "image", imageLayers(t)...)
				other := pull(t, d, "other", imageLayers(t)...) // holds the same image volume
				first, second := start(t, d, "c1", top), start(t, d, "c2", other)
				if first.Image.FileID != second.Image.FileID {
					t.Fatalf("two files, %+v and %+v, of equal image volumes", first.Image, second.Image)
				}
				put(t, d, "c1")
				put(t, d, "c2")
				if err := spoil(first.Image, filepath.Join(driver.Home(d), "layers", top)); err != nil {
					t.Fatal(err)
				}
				if restart {
					d = reopen(t, root)
				}
				for _, id := range []string{"c2", "c1"} {
					get(t, d, id)
					m, err := volume.ReadManifest(first.MountPoint[:len(first.MountPoint)-len("c1/merged")] + id + "/merged")
					if err != nil || m.Image == nil {
						t.Fatalf("%+v, %v", m, err)
					}
					checkImageTree(t, m)
					checkFile(t, m.Image)
					put(t, d, id)
				}
				remove(t, d, "c1", "c2", "image-3", "image-2", "image-1", "image-0", "other-3", "other-2", "other-1", "other-0")
				reopen(t, root)
				for _, sub := range []string{"volumes", "layers", "mounts", "tmp"} {
					wantNames(t, root, sub, 0)
				}
			})
		}
	}
}

// TestImageVolumeAtOnce starts many containers of one image at the same time, from two processes' drivers.
func TestImageVolumeAtOnce(t *testing.T) {
	needRoot(t)
	root := xfs(t)
	drivers := []graphdriver.Driver{reopen(t, root), reopen(t, root)}
	top := pull(t, drivers[0], "image", imageLayers(t)...)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			d, id := drivers[i%2], fmt.Sprintf("c%d", i)
			if err := d.CreateReadWrite(id, top, nil); err != nil {
				t.Error(err)
				return
			}
			if _, err := d.Get(id, graphdriver.MountOpts{}); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	wantNames(t, root, "volumes", 4)
	wantNames(t, root, "tmp", 0)
	for i := range 16 {
		put(t, drivers[i%2], fmt.Sprintf("c%d", i))
	}
	if got := mountsIn(t, root, "mounts"); len(got) != 0 {
		t.Errorf("%d host mounts left", len(got))
	}
}

// TestNoImageVolume has images that need no volume of their own, and places where there is none.
func TestNoImageVolume(t *testing.T) {
	needRoot(t)
	one := makeTar(t, file{name: "f", content: "1"})
	for name, c := range map[string]struct {
		root    string
		options []string
		layers  [][]byte
		want    string // in NoImage; empty: there is an image volume
		mounts  int
	}{
		"one volume":        {t.TempDir(), nil, [][]byte{one}, "", 1},
		"one volume, twice": {t.TempDir(), []string{"erofs.image_volume=off"}, [][]byte{one, one}, "", 1},
		"no shared blocks": {ext4(t), nil, imageLayers(t),
			"where files cannot share blocks (FICLONERANGE: operation not supported)", 3},
		"copy": {ext4(t), []string{"erofs.image_volume=copy"}, imageLayers(t), "", 1},
		"off": {xfs(t), []string{"erofs.image_volume=off"}, imageLayers(t),
			"erofs.image_volume=off forbids", 3},
	} {
		t.Run(name, func(t *testing.T) {
			d := reopen(t, c.root, c.options...)
			m := start(t, d, "c", pull(t, d, "image", c.layers...))
			if (m.Image != nil) != (c.want == "") || !strings.Contains(m.NoImage, c.want) {
				t.Errorf("image %+v, because %q; want %q", m.Image, m.NoImage, c.want)
			}
			if len(m.Volumes) == 1 && !reflect.DeepEqual(m.Image, &m.Volumes[0]) {
				t.Errorf("image %+v; want the only volume, %+v", m.Image, m.Volumes[0])
			}
			if got := mountsIn(t, c.root, "mounts"); len(got) != c.mounts {
				t.Errorf("%d host mounts, want %d", len(got), c.mounts)
			}
			put(t, d, "c")
			if got := mountsIn(t, c.root, "mounts"); len(got) != 0 {
				t.Errorf("%d host mounts left", len(got))
			}
		})
	}
}

// TestDamagedLayer starts no container of an image whose volume is not as large as it was, and says what to do.
func TestDamagedLayer(t *testing.T) {
	needRoot(t)
	d, _ := newDriver(t)
	top := pull(t, d, "image", imageLayers(t)...)
	meta, err := d.Metadata("image-0")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(meta["Volume"], 4096); err != nil {
		t.Fatal(err)
	}
	if err := d.CreateReadWrite("c", top, nil); err != nil {
		t.Fatal(err)
	}
	_, err = d.Get("c", graphdriver.MountOpts{})
	if err == nil || !strings.Contains(err.Error(), "remove the images that use it and pull them again") {
		t.Errorf("got %v", err)
	}
}
