package driver_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containers/storage/pkg/reexec"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/trap"
)

// wantRefusal opens a store and wants an error with these parts: what is wrong with what, and what to do about it.
func wantRefusal(t *testing.T, root string, parts ...string) {
	t.Helper()
	d, err := openDriver(root)
	if err == nil {
		t.Errorf("the store opens; want an error with %q", parts)
		if err := d.Cleanup(); err != nil {
			t.Error(err)
		}
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

// TestNewerStore opens a store that a newer driver has written, and wants it unchanged.
func TestNewerStore(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	apply(t, d, "layer", "", content(1))
	version := filepath.Join(driver.Home(d), "store.json")
	old, err := os.ReadFile(version)
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(driver.Home(d), "layers/half/diff") // of which a newer driver may think otherwise
	if err := errors.Join(os.WriteFile(version, []byte(`{"version":2}`), 0o600), os.MkdirAll(half, 0o700)); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, root, driver.Home(d), "version 2", "install the crio-erofs release", "crio wipe")
	if _, err := os.Stat(half); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(version, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, root, version, `{"version":1}`)
	if err := os.WriteFile(version, old, 0o600); err != nil {
		t.Fatal(err)
	}
	checkContent(t, reopen(t, root), "layer", 1)
}

// TestNextStoreVersion has the next version of the driver use a store, as after an upgrade that is then taken back: it
// reads what is there, and this version touches nothing from then on.
func TestNextStoreVersion(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t, "erofs.image_volume=copy")
	apply(t, d, "base", "", content(1))
	apply(t, d, "top", "base", content(2))
	if err := d.CreateReadWrite("c", "top", nil); err != nil {
		t.Fatal(err)
	}
	get(t, d, "c")
	put(t, d, "c")
	images := names(t, root, "volumes")

	before := driver.BeRelease(2)
	next := reopen(t, root, "erofs.image_volume=copy")
	checkContent(t, next, "top", 2)
	apply(t, next, "more", "top", content(3))
	m, err := volume.ReadManifest(get(t, next, "c"))
	if err != nil {
		t.Fatal(err)
	}
	if m.Image == nil || len(names(t, root, "volumes")) != len(images)+1 {
		t.Errorf("image volume %+v (%q), volumes %v", m.Image, m.NoImage, names(t, root, "volumes"))
	}
	put(t, next, "c")
	driver.BeRelease(before)

	files := allFiles(t, root)
	wantRefusal(t, root, "has version 2 and this driver knows version 1 only", "install the crio-erofs release")
	if after := allFiles(t, root); !slices.Equal(files, after) {
		t.Errorf("the store was changed: %v, and before %v", after, files)
	}
	driver.BeRelease(2)
	defer driver.BeRelease(before)
	checkContent(t, reopen(t, root), "more", 3)
}

// TestReadOnly opens stores on a file system that is read-only, as after an error of a disk.
func TestReadOnly(t *testing.T) {
	needRoot(t)
	for _, used := range []bool{false, true} {
		root := ext4(t)
		if used {
			apply(t, reopen(t, root), "layer", "", content(1))
		}
		if err := os.MkdirAll(filepath.Join(root, driver.Name), 0o700); err != nil {
			t.Fatal(err)
		}
		run(t, "mount", "-o", "remount,ro", root)
		wantRefusal(t, root, root, "read-only file system", "mount -o remount,rw")
		run(t, "mount", "-o", "remount,rw", root)
	}
}

// TestFullDiskAtFirst opens a new store on a full disk.
func TestFullDiskAtFirst(t *testing.T) {
	needRoot(t)
	root := ext4(t)
	fill, err := os.Create(filepath.Join(root, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(fill, zeros{}); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	fill.Close()
	wantRefusal(t, root, root, "no space left on device")
	if err := os.Remove(fill.Name()); err != nil {
		t.Fatal(err)
	}
	apply(t, reopen(t, root), "layer", "", content(1)) // nothing half-made is in its way
	checkSound(t, root)
}

// TestNoEROFS opens a store on a kernel that says it has no such file system.
func TestNoEROFS(t *testing.T) {
	needRoot(t)
	for _, fs := range []string{"erofs", "overlay"} {
		input, err := json.Marshal(life{Root: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		cmd := reexec.Command(lifeName)
		var stderr bytes.Buffer
		cmd.Stdin, cmd.Stderr = bytes.NewReader(input), &stderr
		err = trap.Run(cmd, func(c *trap.Call) trap.Verdict {
			if c.Name() == "fsopen" && c.Text(0) == fs {
				return trap.Fail(unix.ENODEV)
			}
			return trap.Go
		})
		if err == nil || !strings.Contains(stderr.String(), "modprobe "+fs) {
			t.Errorf("%v: %s", err, stderr.String())
		}
	}
}

// TestForeign has things in the store's directories that are not the store's. They stay, are not taken for layers, and
// are in nobody's way.
func TestForeign(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	apply(t, d, "layer", "", content(1))
	foreign := []string{
		"lost+found/#12", "layers/lost+found/#13", "layers/backup/precious", "volumes/lost+found/#14",
		"volumes/old/layer.erofs", "mounts/mine/file", "tmp/lost+found/#15", "tmp/notes",
	}
	for _, name := range foreign {
		path := filepath.Join(driver.Home(d), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(driver.Home(d), "layers/README"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d = reopen(t, root)
	if ids, err := d.ListLayers(); err != nil || len(ids) != 1 {
		t.Errorf("layers: %v, %v", ids, err)
	}
	checkContent(t, d, "layer", 1)
	get(t, d, "layer")
	put(t, d, "layer")
	if err := d.Remove("layer"); err != nil {
		t.Error(err)
	}
	for _, name := range foreign {
		if b, err := os.ReadFile(filepath.Join(driver.Home(d), name)); err != nil || string(b) != name {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
}

// TestForeignHome has a directory in the store's place that is somebody else's.
func TestForeignHome(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	path := filepath.Join(root, driver.Name, "photos")
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, root, filepath.Dir(path), "photos", "move that away")
	if err := os.Rename(path, filepath.Join(root, "photos")); err != nil {
		t.Fatal(err)
	}
	reopen(t, root)
}
