package driver_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	graphdriver "github.com/containers/storage/drivers"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/counters"
	fstest "github.com/crio-erofs/crio-erofs/test/tree"
)

// noRoom returns a driver with an image of two layers on a disk that is full as long as the file filler is there.
func noRoom(t *testing.T) (d graphdriver.Driver, root, top, filler string) {
	t.Helper()
	needRoot(t)
	fstest.RequireTool(t, "mkfs.ext4")
	root = fstest.FileSystem(t, 64<<20, "mkfs.ext4", "-q")
	d = reopen(t, root, "erofs.image_volume=copy")
	top = pull(t, d, "image",
		makeTar(t, file{name: "a", content: strings.Repeat("abcdefgh", 1<<20)}),
		makeTar(t, file{name: "b", content: strings.Repeat("12345678", 1<<20)}))
	filler = filepath.Join(root, "filler")
	if err := os.WriteFile(filler, make([]byte, 24<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return d, root, top, filler
}

// TestImageVolumeFails has no room for an image volume on the disk: containers start without one, their manifests say
// why, and a while passes before it is tried again.
func TestImageVolumeFails(t *testing.T) {
	defer driver.RetryImages(driver.RetryImages(time.Hour))
	d, root, top, filler := noRoom(t)
	m := start(t, d, "c1", top)
	if m.Image != nil || !strings.Contains(m.NoImage, unix.ENOSPC.Error()) || strings.Contains(m.NoImage, "next try") {
		t.Errorf("image %+v, because %q", m.Image, m.NoImage)
	}
	wantNames(t, root, "tmp", 0)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	m = start(t, d, "c2", top)
	if m.Image != nil || !strings.Contains(m.NoImage, unix.ENOSPC.Error()) || !strings.Contains(m.NoImage, "next try") {
		t.Errorf("image %+v, because %q", m.Image, m.NoImage)
	}
	driver.RetryImages(time.Nanosecond)
	if m := start(t, d, "c3", top); m.Image == nil {
		t.Errorf("no image volume although there is room: %s", m.NoImage)
	}
	for _, id := range []string{"c1", "c2", "c3"} {
		put(t, d, id)
	}
}

// TestImageVolumeFailsOnce starts containers at the same time where there is no room for their image volume: one tries,
// the others take its failure.
func TestImageVolumeFailsOnce(t *testing.T) {
	defer driver.RetryImages(driver.RetryImages(time.Hour))
	d, root, top, _ := noRoom(t)
	holder := flocked(t, filepath.Join(root, "erofs/layers", top)) // as if a volume was being made
	defer holder.Close()
	var containers sync.WaitGroup
	for i := range 3 {
		id := fmt.Sprint("c", i)
		if err := d.CreateReadWrite(id, top, nil); err != nil {
			t.Fatal(err)
		}
		containers.Go(func() {
			if _, err := d.Get(id, graphdriver.MountOpts{}); err != nil {
				t.Error(err)
			}
		})
		defer put(t, d, id)
	}
	time.Sleep(100 * time.Millisecond) // most often, all wait by then
	if err := holder.Close(); err != nil {
		t.Fatal(err)
	}
	containers.Wait()
	c, err := counters.Read(filepath.Join(root, "erofs", counters.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if c.Images.Failed != 1 {
		t.Errorf("the image volume was tried %d times", c.Images.Failed)
	}
}

// TestImageVolumeInBackground makes image volumes while containers of the image start: nobody waits.
func TestImageVolumeInBackground(t *testing.T) {
	needRoot(t)
	for name, disk := range map[string]func(testing.TB) string{"ext4": ext4, "split": twoDisks} {
		t.Run(name, func(t *testing.T) {
			root := disk(t)
			d := reopen(t, root, "erofs.image_volume=background")
			top := pull(t, d, "image", imageLayers(t)...)
			parts := roots(root)
			holder := flocked(t, filepath.Join(parts[len(parts)-1], "erofs/layers", top)) // so that making one takes long
			for _, id := range []string{"c1", "c2"} {
				if m := start(t, d, id, top); m.Image != nil || !strings.Contains(m.NoImage, "background") || len(m.Volumes) != 3 {
					t.Errorf("%s: image %+v, because %q", id, m.Image, m.NoImage)
				}
			}
			holder.Close()
			driver.FinishAside(d)
			m := start(t, d, "c3", top)
			if m.Image == nil {
				t.Fatal(m.NoImage)
			}
			checkFile(t, m.Image)
			checkImageTree(t, m)
			for _, id := range []string{"c1", "c2", "c3"} {
				put(t, d, id)
			}
		})
	}
}

// TestImageGoesInBackground removes an image while its image volume is made, and pulls it again: that is no failure which
// containers of the new one would hear of.
func TestImageGoesInBackground(t *testing.T) {
	needRoot(t)
	root := ext4(t)
	d := reopen(t, root, "erofs.image_volume=background")
	top := pull(t, d, "image", imageLayers(t)...)
	holder := flocked(t, filepath.Join(root, "erofs/layers", top))
	start(t, d, "c1", top)
	put(t, d, "c1")
	remove(t, d, "c1", top)
	holder.Close()
	driver.FinishAside(d)
	wantNames(t, root, "tmp", 0)
	apply(t, d, top, "image-2", imageLayers(t)[3])
	m := start(t, d, "c2", top)
	if m.Image != nil || !strings.Contains(m.NoImage, "background") {
		t.Errorf("image %+v, because %q", m.Image, m.NoImage)
	}
	driver.FinishAside(d)
	if m := start(t, d, "c3", top); m.Image == nil {
		t.Error(m.NoImage)
	}
	put(t, d, "c2")
	put(t, d, "c3")
}

// TestBackgroundStops has no room for an image volume, or no time: nothing of it is left.
func TestBackgroundStops(t *testing.T) {
	_, root, top, filler := noRoom(t)
	d := reopen(t, root, "erofs.image_volume=background")
	start(t, d, "c1", top)
	driver.FinishAside(d)
	m := start(t, d, "c2", top)
	if m.Image != nil || !strings.Contains(m.NoImage, unix.ENOSPC.Error()) {
		t.Errorf("image %+v, because %q", m.Image, m.NoImage)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	other := pull(t, d, "other", imageLayers(t)...)
	start(t, d, "c3", other)
	for _, id := range []string{"c1", "c2", "c3"} {
		put(t, d, id)
	}
	if err := d.Cleanup(); err != nil {
		t.Error(err)
	}
	wantNames(t, root, "tmp", 0)
	checkSound(t, root)
}

// TestBackgroundBegins has work begin other work while it is stopped, as an image volume does that is to be checked.
func TestBackgroundBegins(t *testing.T) {
	var b driver.Background
	begun := make(chan struct{})
	b.Begin("image", func(ctx context.Context) {
		close(begun)
		b.Begin("image", func(context.Context) { t.Error("work of the same name was begun") })
		<-ctx.Done()
		b.Begin("check", func(ctx context.Context) { <-ctx.Done() })
	})
	<-begun
	if b.Stop() {
		t.Fatal("what was begun at the end goes on")
	}
}

// flocked takes the lock of a directory.
func flocked(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestOldTemplate has the template of a release that did not sync it, as a power failure leaves it.
func TestOldTemplate(t *testing.T) {
	needRoot(t)
	root := ext4(t)
	reopen(t, root)
	old := filepath.Join(root, "erofs/templates/ext4-1-67108864.img")
	if err := os.WriteFile(old, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	d := reopen(t, root, "erofs.rw_layer=ext4", "erofs.rw_size=64M")
	wantNames(t, root, "templates", 0)
	m := start(t, d, "c", pull(t, d, "image", imageLayers(t)...))
	checkRWLayer(t, m)
	put(t, d, "c")
}
