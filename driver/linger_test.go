package driver_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	graphdriver "github.com/containers/storage/drivers"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
)

// testDriver is a driver and where its store is.
type testDriver struct {
	graphdriver.Driver
	root string
}

// life has a container live and die, and returns the device number of its host mount.
func (d *testDriver) life(t *testing.T) uint64 {
	t.Helper()
	if err := d.CreateReadWrite("c", "base", nil); err != nil {
		t.Fatal(err)
	}
	get(t, d, "c")
	dev := hostDevice(t, d.root)
	if err := errors.Join(d.Put("c"), d.Remove("c")); err != nil {
		t.Fatal(err)
	}
	return dev
}

// lingering has the only container of a new image stop, and returns the device of the host mount that it has left.
func lingering(t *testing.T) (d *testDriver, dev uint64) {
	t.Helper()
	needRoot(t)
	own, root := newDriver(t)
	d = &testDriver{own, root}
	apply(t, d, "base", "", makeTar(t, file{name: "base", content: "b"}))
	return d, d.life(t)
}

// TestLinger checks that a container which starts soon after the last one finds its host mount where it was, and that
// the mount goes when it is time.
func TestLinger(t *testing.T) {
	d, dev := lingering(t)
	if left := mountsIn(t, d.root, ""); len(left) != 1 || hostDevice(t, d.root) != dev {
		t.Errorf("%d mounts after the container, want the host mount", len(left))
	}
	if again := d.life(t); again != dev {
		t.Errorf("the second container has device %#x, the first one had %#x", again, dev)
	}
	if driver.Kept(d.Driver) != 0 {
		t.Error("a mount that lingers is kept, too")
	}
	driver.ReleaseLingering(d.Driver)
	if n := len(mountsIn(t, d.root, "")); n != 0 || driver.Kept(d.Driver) != 1 {
		t.Errorf("%d mounts when the time is over, %d kept, want 0 and 1", n, driver.Kept(d.Driver))
	}
}

// TestLingerEnds has the time be over by itself.
func TestLingerEnds(t *testing.T) {
	before := driver.LingerFor(time.Millisecond)
	t.Cleanup(func() { driver.LingerFor(before) })
	d, _ := lingering(t)
	for end := time.Now().Add(time.Minute); len(mountsIn(t, d.root, "")) != 0; {
		if time.Now().After(end) {
			t.Fatal("the host mount is still there")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestLingerUsed has a container start while a host mount lingers, and be there when the time is over.
func TestLingerUsed(t *testing.T) {
	d, dev := lingering(t)
	if err := d.CreateReadWrite("c", "base", nil); err != nil {
		t.Fatal(err)
	}
	get(t, d, "c")
	driver.ReleaseLingering(d.Driver)
	if hostDevice(t, d.root) != dev {
		t.Error("the container has another host mount")
	}
	put(t, d.Driver, "c")
	if n := len(mountsIn(t, d.root, "")); n != 0 {
		t.Errorf("%d mounts left", n)
	}
}

// TestLingerRemoved checks that what removes an image, another process's driver or a new one, does not wait.
func TestLingerRemoved(t *testing.T) {
	for _, name := range []string{"the same", "another", "a new one"} {
		t.Run(name, func(t *testing.T) {
			d, _ := lingering(t)
			remover := d.Driver
			if name != "the same" {
				remover = reopen(t, d.root)
			}
			if n := len(mountsIn(t, d.root, "")); (n == 0) != (name != "the same") {
				t.Errorf("%d mounts before the image is removed", n)
			}
			if name == "another" {
				d.life(t)
			}
			if err := remover.Remove("base"); err != nil {
				t.Fatal(err)
			}
			if n := len(mountsIn(t, d.root, "")); n != 0 {
				t.Errorf("%d mounts of a removed image", n)
			}
			driver.ReleaseLingering(d.Driver)
		})
	}
}

// TestLingerWiped deletes the store before the time is over.
func TestLingerWiped(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	d, err := openDriver(root)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, d, "base", "", makeTar(t, file{name: "base", content: "b"}))
	get(t, d, "base")
	if err := d.Put("base"); err != nil {
		t.Fatal(err)
	}
	if err := reopen(t, root).Cleanup(); err != nil { // as crio wipe does, in another process
		t.Fatal(err)
	}
	if err := os.Rename(root, root+".wiped"); err != nil {
		t.Fatal(err)
	}
	driver.ReleaseLingering(d)
	if err := os.Rename(root+".wiped", root); err != nil {
		t.Fatal(err)
	}
}

// TestSweepFails has a removed layer's volume stay, whatever is tried: containers come and go all the same.
func TestSweepFails(t *testing.T) {
	needRoot(t)
	root := ext4(t)
	d := &testDriver{reopen(t, root), root}
	apply(t, d, "base", "", makeTar(t, file{name: "base", content: "b"}))
	volume := names(t, root, "volumes")[0]
	thaw := freeze(t, filepath.Join(root, "erofs/volumes", volume))
	if err := d.Remove("base"); err != nil {
		t.Error(err)
	}
	wantNames(t, root, "layers", 0)
	apply(t, d, "base", "", makeTar(t, file{name: "base", content: "other"}))
	d.life(t)
	if err := driver.Settle(d.Driver); err != nil {
		t.Error(err)
	}
	if n := len(mountsIn(t, root, "")); n != 0 {
		t.Errorf("%d mounts left", n)
	}
	wantNames(t, root, "volumes", 2)
	thaw()
	if err := driver.Settle(d.Driver); err != nil {
		t.Error(err)
	}
	wantNames(t, root, "volumes", 1)
}

// freeze has nobody remove anything from a directory until it is thawed (ioctl_iflags(2)).
func freeze(t *testing.T, path string) (thaw func()) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	set := func(flags int) {
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags); err != nil {
			t.Fatal(err)
		}
	}
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		t.Fatal(err)
	}
	set(flags | unix.STATX_ATTR_IMMUTABLE) // has the bit of FS_IMMUTABLE_FL (linux/fs.h)
	return func() {
		set(flags)
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
