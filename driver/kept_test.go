package driver_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	graphdriver "github.com/containers/storage/drivers"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
)

// hostDevice returns the device number of the only host mount. No other superblock has it at the same time.
func hostDevice(t *testing.T, root string) uint64 {
	t.Helper()
	mounts := mountsIn(t, root, "mounts")
	if len(mounts) != 1 {
		t.Fatalf("%d host mounts, want 1", len(mounts))
	}
	var st unix.Stat_t
	if err := unix.Stat(mounts[0].Mountpoint, &st); err != nil {
		t.Fatal(err)
	}
	return st.Dev
}

// lifeOf has a container of an image live and die, and returns the device number of its host mount.
func lifeOf(t *testing.T, d graphdriver.Driver, root, image string) uint64 {
	t.Helper()
	if err := d.CreateReadWrite("c", image, nil); err != nil {
		t.Fatal(err)
	}
	get(t, d, "c")
	dev := hostDevice(t, root)
	put(t, d, "c")
	if err := d.Remove("c"); err != nil {
		t.Fatal(err)
	}
	if n := len(mountsIn(t, root, "")); n != 0 {
		t.Errorf("%d mounts left", n)
	}
	return dev
}

// held counts this process's descriptors of EROFS mounts.
func held(t *testing.T) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		var st unix.Statfs_t
		if unix.Statfs(filepath.Join("/proc/self/fd", fd.Name()), &st) == nil && st.Type == unix.EROFS_SUPER_MAGIC_V1 {
			n++
		}
	}
	return n
}

// TestKept checks that a container starts with the mount that the one before it has left, which is in no mount table,
// and that nothing holds a volume that is gone.
func TestKept(t *testing.T) {
	needRoot(t)
	for _, mode := range []string{"auto", "loop"} {
		t.Run(mode, func(t *testing.T) {
			if err := letGo(); err != nil { // of tests before this one
				t.Fatal(err)
			}
			d, root := newDriver(t, "erofs.mount="+mode)
			apply(t, d, "base", "", makeTar(t, file{name: "base", content: "b"}))
			first := lifeOf(t, d, root, "base")
			if n := held(t); n != 1 || driver.Kept(d) != 1 {
				t.Errorf("%d mounts are held, %d kept, want 1", n, driver.Kept(d))
			}
			if again := lifeOf(t, d, root, "base"); again != first {
				t.Errorf("the second container has device %#x, the first one had %#x: mounted anew", again, first)
			}
			driver.TidyKept(d)
			if driver.Kept(d) != 1 {
				t.Error("a good mount was tidied away")
			}
			if err := d.Remove("base"); err != nil {
				t.Fatal(err)
			}
			if n := held(t); n != 0 {
				t.Errorf("%d mounts of a removed volume are held", n)
			}
		})
	}
}

// TestKeptElsewhere has another process, which has the store open too, remove an image, and pull it again.
func TestKeptElsewhere(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	other := reopen(t, root)
	layer := makeTar(t, file{name: "base", content: "b"})
	apply(t, d, "base", "", layer)
	lifeOf(t, d, root, "base")
	if err := other.Remove("base"); err != nil {
		t.Fatal(err)
	}
	driver.TidyKept(d)
	if driver.Kept(d) != 0 {
		t.Error("a mount of a removed volume is kept")
	}
	apply(t, d, "base", "", layer)
	if err := d.CreateReadWrite("c", "base", nil); err != nil {
		t.Fatal(err)
	}
	get(t, d, "c")
	old := hostDevice(t, root)
	driver.KeepTwice(d, names(t, root, "volumes")[0], "so that nothing else gets the device number")
	put(t, d, "c")
	for _, id := range []string{"c", "base"} {
		if err := other.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, other, "base", "", layer) // a new file of the same name
	if lifeOf(t, d, root, "base") == old {
		t.Error("the container has the volume that was removed")
	}
}

// TestKeptUnverified has a container outlive a restart with erofs.host_verity=on: its mount, which is not checked, is not
// kept for those to come.
func TestKeptUnverified(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	apply(t, d, "base", "", makeTar(t, file{name: "base", content: "b"}))
	get(t, d, "base")
	hostDevice(t, root)
	driver.RequireVerity(d)
	put(t, d, "base")
	if driver.Kept(d) != 0 {
		t.Error("the next container would have a mount without dm-verity")
	}
}

// TestKeptBound keeps more mounts than it may.
func TestKeptBound(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	apply(t, d, "base", "", makeTar(t, file{name: "base", content: "b"}))
	if err := letGo(); err != nil {
		t.Fatal(err)
	}
	get(t, d, "base")
	before := held(t)
	volume := names(t, root, "volumes")[0]
	for i := range driver.MaxKept + 20 {
		driver.KeepTwice(d, volume, fmt.Sprint(i))
	}
	if n := held(t) - before; n != driver.MaxKept || driver.Kept(d) != driver.MaxKept {
		t.Errorf("%d mounts are held, %d kept, want %d", n, driver.Kept(d), driver.MaxKept)
	}
	if err := d.Cleanup(); err != nil {
		t.Error(err)
	}
	if n := held(t) - before; n != 0 {
		t.Errorf("%d mounts are held after Cleanup", n)
	}
}
