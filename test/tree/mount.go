package tree

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// MountVolume mounts an EROFS volume read-only until the test ends and returns where.
func MountVolume(t testing.TB, volume string) string {
	t.Helper()
	RequireRoot(t)
	dir := t.TempDir()
	err := unix.Mount(volume, dir, "erofs", unix.MS_RDONLY, "")
	if errors.Is(err, unix.ENOTBLK) || errors.Is(err, unix.ENOTSUP) { // no file-backed mounts before Linux 6.12, nor on tmpfs
		var out []byte
		if out, err = exec.Command("mount", "-t", "erofs", "-o", "ro,loop", volume, dir).CombinedOutput(); err != nil {
			t.Fatalf("mount %s with a loop device: %v: %s", volume, err, out)
		}
	}
	if err != nil {
		t.Fatalf("mount %s: %v", volume, err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

// MountOverlay mounts an overlay of lower directories, the topmost first, until the test ends and returns where.
func MountOverlay(t testing.TB, lower ...string) string {
	t.Helper()
	RequireRoot(t)
	dir, options := t.TempDir(), "lowerdir="
	for i, l := range lower {
		if i > 0 {
			options += ":"
		}
		options += l
	}
	if len(lower) == 1 {
		options += ":" + t.TempDir() // overlay wants two
	}
	if err := unix.Mount("overlay", dir, "overlay", unix.MS_RDONLY, options); err != nil {
		t.Fatalf("mount overlay of %q: %v", lower, err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

// SmallFileSystem makes an ext4 file system of size bytes, mounted until the test ends, and returns where.
func SmallFileSystem(t testing.TB, size int64) string {
	t.Helper()
	return FileSystem(t, size, "mkfs.ext4", "-q", "-m", "0")
}

// FileSystem makes a file system of size bytes with a command, mounted until the test ends, and returns where.
func FileSystem(t testing.TB, size int64, mkfs ...string) string {
	t.Helper()
	return FileSystemWith(t, "loop", size, mkfs...)
}

// FileSystemWith is like FileSystem, with options for mount(8), of which loop has to be one. A kernel that does not take
// the options skips the test.
func FileSystemWith(t testing.TB, options string, size int64, mkfs ...string) string {
	t.Helper()
	RequireRoot(t)
	dir, err := makeFileSystem(t, options, size, mkfs)
	if err != nil && options != "loop" {
		t.Skipf("this kernel has no mounts with options %s: %v", options, err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

func makeFileSystem(t testing.TB, options string, size int64, mkfs []string) (dir string, err error) {
	t.Helper()
	img := filepath.Join(memoryDir(t), "fs.img")
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, size); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs[0], append(mkfs[1:], img)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", mkfs[0], err, out)
	}
	dir = t.TempDir()
	if out, err := exec.Command("mount", "-o", options, img, dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("mount %s: %w: %s", img, err, out)
	}
	return dir, nil
}

// memoryDir makes a directory in memory, if the machine has some for files: there syncing takes no time.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "crio-erofs-test.")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// unmount waits a little for what was mounted below and taken away lazily: the kernel may let go of it later.
func unmount(t testing.TB, dir string) {
	err := unix.Unmount(dir, 0)
	for tries := 0; errors.Is(err, unix.EBUSY) && tries < 100; tries++ {
		time.Sleep(50 * time.Millisecond)
		err = unix.Unmount(dir, 0)
	}
	if err != nil {
		t.Errorf("unmount %s: %v", dir, err)
	}
}

// RequireRoot skips a test that must mount.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
}

// RequireTool skips a test that needs a program that is not there.
func RequireTool(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s: %v", name, err)
	}
}
