package driver_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	graphdriver "github.com/containers/storage/drivers"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// flip changes a bit of a file behind the file system's back as far as its times tell.
func flip(t *testing.T, path string, offset int64) {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, fi.ModTime(), fi.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// volumeOf returns a layer's volume file.
func volumeOf(t *testing.T, d graphdriver.Driver, id string) string {
	t.Helper()
	m, err := d.Metadata(id)
	if err != nil {
		t.Fatal(err)
	}
	return m["Volume"]
}

// TestVerifyOnMount has every use of a damaged volume refused, with the block's number and what to do.
func TestVerifyOnMount(t *testing.T) {
	needRoot(t)
	for _, layout := range volume.Layouts {
		t.Run(string(layout), func(t *testing.T) {
			root := t.TempDir()
			d := reopen(t, root, "erofs.layout="+string(layout))
			top := pull(t, d, "image", imageLayers(t)...)
			if err := d.CreateReadWrite("c", top, nil); err != nil {
				t.Fatal(err)
			}
			const offset = 10000 // in the 4 KiB block 2, the 512-byte block 19
			flip(t, volumeOf(t, d, "image-2"), offset)
			block := fmt.Sprintf("data block %d at offset", offset/layout.BlockSize())
			get(t, d, "c")
			put(t, d, "c") // nobody asked for a check
			d = reopen(t, root, "erofs.verify=on-mount")
			for what, use := range map[string]func() error{
				"container": func() error { _, err := d.Get("c", graphdriver.MountOpts{}); return err },
				"image":     func() error { _, err := d.Get(top, graphdriver.MountOpts{}); return err },
				"diff":      func() error { _, err := d.Diff("image-2", nil, "image-1", nil, ""); return err },
				"files":     func() error { _, err := d.(graphdriver.DiffGetterDriver).DiffGetter("image-2"); return err },
			} {
				err := use()
				if err == nil || !strings.Contains(err.Error(), block) || !strings.Contains(err.Error(), "pull them again") {
					t.Errorf("%s: %v; want %s", what, err, block)
				}
			}
			if got := mountsIn(t, root, ""); len(got) != 0 {
				t.Errorf("mounts left: %v", got)
			}
			get(t, d, "image-1") // whole
			put(t, d, "image-1")
		})
	}
}

// TestVerifyOnce reads a volume once per process, unless it was written to.
func TestVerifyOnce(t *testing.T) {
	needRoot(t)
	d, _ := newDriver(t, "erofs.verify=on-mount")
	apply(t, d, "base", "", makeTar(t, file{name: "f", content: strings.Repeat("x", 20000)}))
	get(t, d, "base")
	put(t, d, "base")
	path := volumeOf(t, d, "base")
	flip(t, path, 10000)
	get(t, d, "base") // has the times of the checked file
	put(t, d, "base")
	if err := os.Chtimes(path, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get("base", graphdriver.MountOpts{}); err == nil {
		t.Error("a volume that was written to since it was checked is mounted")
	}
}

// TestVerifyForeignMount reads a damaged volume that another process has mounted without a check.
func TestVerifyForeignMount(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	d := reopen(t, root)
	apply(t, d, "base", "", makeTar(t, file{name: "f", content: strings.Repeat("x", 20000)}))
	get(t, d, "base")
	flip(t, volumeOf(t, d, "base"), 10000)
	checking := reopen(t, root, "erofs.verify=on-mount")
	if _, err := checking.(graphdriver.DiffGetterDriver).DiffGetter("base"); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("error %v", err)
	}
	put(t, d, "base")
}

// TestVerifySoon checks a new volume before anybody uses it.
func TestVerifySoon(t *testing.T) {
	needRoot(t)
	for name, disk := range map[string]func(testing.TB) string{"ext4": ext4, "split": twoDisks} {
		t.Run(name, func(t *testing.T) { testVerifySoon(t, disk(t)) })
	}
}

func testVerifySoon(t *testing.T, root string) {
	d := reopen(t, root, "erofs.verify=on-mount", "erofs.image_volume=copy")
	top := pull(t, d, "image", imageLayers(t)...)
	driver.FinishAside(d)
	flip(t, volumeOf(t, d, top), 10000)
	get(t, d, top) // has the times of the checked file
	put(t, d, top)
	flip(t, volumeOf(t, d, top), 10000) // as it was
	m := start(t, d, "c", top)
	driver.FinishAside(d)
	flip(t, m.Image.Path, 10000)
	put(t, d, "c")
	get(t, d, "c")
	put(t, d, "c")
}

// TestVerifyImageVolumeLost finds an image volume damaged where there is no room for another one.
func TestVerifyImageVolumeLost(t *testing.T) {
	d, root, top, filler := noRoom(t)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	m := start(t, d, "c", top)
	put(t, d, "c")
	if m.Image == nil {
		t.Fatal(m.NoImage)
	}
	flip(t, m.Image.Path, 10000)
	if err := driver.DropKept(d); err != nil {
		t.Fatal(err)
	}
	fillBut4M(t, filler)
	held, err := os.Open(m.Image.Path) // so that its removal gives nothing back
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	d = reopen(t, root, "erofs.image_volume=copy", "erofs.verify=on-mount")
	got, err := volume.ReadManifest(get(t, d, "c"))
	if err != nil || got.Image != nil || !strings.Contains(got.NoImage, unix.ENOSPC.Error()) {
		t.Errorf("%+v, %v", got, err)
	}
	put(t, d, "c")
}

// fillBut4M makes a file of all that is free but 4 MiB, of which a container needs some.
func fillBut4M(t *testing.T, path string) {
	t.Helper()
	room := free(t, filepath.Dir(path))
	if err := os.WriteFile(path, make([]byte, room-4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyImageVolume makes a damaged image volume again, for all images that hold it.
func TestVerifyImageVolume(t *testing.T) {
	needRoot(t)
	root := ext4(t)
	options := []string{"erofs.verify=on-mount", "erofs.image_volume=copy"}
	d := reopen(t, root, options...)
	m := start(t, d, "c", pull(t, d, "image", imageLayers(t)...))
	start(t, d, "c2", pull(t, d, "other", imageLayers(t)...))
	put(t, d, "c")
	put(t, d, "c2")
	flip(t, m.Image.Path, 10000)
	d = reopen(t, root, options...)
	for _, id := range []string{"c", "c2"} {
		got, err := volume.ReadManifest(get(t, d, id))
		if err != nil || got.Image == nil || got.Image.FileID == m.Image.FileID {
			t.Fatalf("%+v, %v; want a new image volume", got, err)
		}
		checkFile(t, got.Image)
		checkImageTree(t, got)
		put(t, d, id)
	}
	wantNames(t, root, "volumes", 4)
}

// TestDiscardLate finds an image volume damaged that another process has made again meanwhile: the new one stays.
func TestDiscardLate(t *testing.T) {
	needRoot(t)
	d := reopen(t, xfs(t))
	top := pull(t, d, "image", imageLayers(t)...)
	other := pull(t, d, "other", imageLayers(t)...)
	m := start(t, d, "c", top)
	start(t, d, "c2", other)
	if err := driver.DiscardImage(d, top, volume.FileID{Device: m.Image.Device, Inode: m.Image.Inode + 1}); err != nil {
		t.Fatal(err)
	}
	checkFile(t, m.Image)
}
