package driver_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
	fstest "github.com/crio-erofs/crio-erofs/test/tree"
)

// TestImageVolumeFails has no room for an image volume on the disk: containers start without one, their manifests say
// why, and a while passes before it is tried again.
func TestImageVolumeFails(t *testing.T) {
	needRoot(t)
	fstest.RequireTool(t, "mkfs.ext4")
	root := fstest.FileSystem(t, 64<<20, "mkfs.ext4", "-q")
	d := reopen(t, root, "erofs.image_volume=copy")
	top := pull(t, d, "image",
		makeTar(t, file{name: "a", content: strings.Repeat("abcdefgh", 1<<20)}),
		makeTar(t, file{name: "b", content: strings.Repeat("12345678", 1<<20)}))
	filler := filepath.Join(root, "filler")
	if err := os.WriteFile(filler, make([]byte, 24<<20), 0o600); err != nil {
		t.Fatal(err)
	}
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
	defer driver.RetryImages(driver.RetryImages(time.Nanosecond))
	if m := start(t, d, "c3", top); m.Image == nil {
		t.Errorf("no image volume although there is room: %s", m.NoImage)
	}
	for _, id := range []string{"c1", "c2", "c3"} {
		put(t, d, id)
	}
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
