package driver_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	graphdriver "github.com/containers/storage/drivers"
	"golang.org/x/sys/unix"

	fstest "github.com/crio-erofs/crio-erofs/test/tree"
)

// quotaPlaces are file systems with project quotas. Where the kernel has none, package vmrun runs the tests on one
// that has.
var quotaPlaces = map[string]func(testing.TB) string{
	"xfs": func(t testing.TB) string {
		fstest.RequireTool(t, "mkfs.xfs")
		return fstest.FileSystemWith(t, "loop,pquota", 400<<20, "mkfs.xfs", "-q")
	},
	"ext4": func(t testing.TB) string {
		fstest.RequireTool(t, "mkfs.ext4")
		return fstest.FileSystemWith(t, "loop,prjquota", 256<<20, "mkfs.ext4", "-q", "-O", "quota,project", "-E",
			"quotatype=prjquota")
	},
}

// fillUp writes files to a directory until it is full, and returns how many bytes fitted.
func fillUp(t *testing.T, dir string) int64 {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "fill"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	var n int64
	for n < 100<<20 {
		m, err := f.Write(block)
		n += int64(m)
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("%d bytes fit in", n)
	return n
}

// limited makes a container's layer with a limit of its own.
func limited(t *testing.T, d graphdriver.Driver, id string, options map[string]string) {
	t.Helper()
	if err := d.CreateReadWrite(id, "base", &graphdriver.CreateOpts{StorageOpt: options}); err != nil {
		t.Fatal(err)
	}
}

func usage(t *testing.T, d graphdriver.Driver, id string) (size, inodes int64) {
	t.Helper()
	u, err := d.ReadWriteDiskUsage(id)
	if err != nil {
		t.Fatal(err)
	}
	return u.Size, u.InodeCount
}

// TestQuota fills containers up to their limits: the default one, one of its own, and one of files. The others, and the
// driver itself, are not hindered.
func TestQuota(t *testing.T) {
	needRoot(t)
	for name, place := range quotaPlaces {
		t.Run(name, func(t *testing.T) { testQuota(t, place(t)) })
	}
}

func testQuota(t *testing.T, root string) {
	const size = 8 << 20
	d := reopen(t, root, "erofs.size=8M")
	apply(t, d, "base", "", makeTar(t, file{name: "big", content: strings.Repeat("x", 1<<20)}))
	limited(t, d, "default", nil)
	limited(t, d, "small", map[string]string{"size": "2M"})
	limited(t, d, "files", map[string]string{"size": "0", "inodes": "30"})
	// A process that was there before knows of the projects that this one has given away.
	other := reopen(t, root, "erofs.size=8M")
	limited(t, other, "other", nil)
	limited(t, d, "mine", nil)
	for id, limit := range map[string]int64{"default": size, "small": 2 << 20, "other": size, "mine": size} {
		dir := get(t, d, id)
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil || int64(st.Blocks)*st.Bsize != limit {
			t.Errorf("%s: the file system has %d bytes, %v; want %d", id, int64(st.Blocks)*st.Bsize, err, limit)
		}
		if n := fillUp(t, dir); n < limit*3/4 || n > limit {
			t.Errorf("%s: %d bytes fit in, limit %d", id, n, limit)
		}
		// The layer below does not count, but what is copied up from it.
		if err := os.Chmod(filepath.Join(dir, "big"), 0o600); !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
			t.Errorf("%s: copying a file up: %v", id, err)
		}
		if n, _ := usage(t, other, id); n < limit*3/4 || n > limit {
			t.Errorf("%s: uses %d bytes, limit %d", id, n, limit)
		}
	}
	dir := get(t, d, "files")
	for i := range 100 {
		err := os.WriteFile(filepath.Join(dir, "f"+string(rune('0'+i))), nil, 0o600)
		if err == nil {
			continue
		}
		// XFS counts what was removed until it is freed in the background (fs/xfs/xfs_icache.c, inodegc): a few files of
		// the mount's making may have been in the way of the last ones.
		full := errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.ENOSPC)
		if _, n := usage(t, d, "files"); i < 20 || i > 29 || n < 25 || n > 30 || !full {
			t.Errorf("after %d files (%d inodes): %v", i, n, err)
		}
		break
	}

	// A full container can be mounted again, also by a process that sets no limits, and keeps its own.
	put(t, d, "small")
	free := reopen(t, root)
	dir = get(t, free, "small")
	if err := os.Remove(filepath.Join(dir, "fill")); err != nil {
		t.Fatal(err)
	}
	if n := fillUp(t, dir); n > 2<<20 {
		t.Errorf("after a restart %d bytes fit in", n)
	}
	put(t, free, "small")
	for _, id := range []string{"default", "small", "files", "other", "mine"} {
		if err := d.Remove(id); err != nil {
			t.Error(err)
		}
	}
	if list := names(t, root, "quotas"); len(list) != 1 || list[0] != "backingFsBlockDev" {
		t.Errorf("quotas/ has %v, want containers/storage's device node", list)
	}
}

// TestQuotaLeftover wants the projects of lost layers given back.
func TestQuotaLeftover(t *testing.T) {
	needRoot(t)
	root := quotaPlaces["xfs"](t)
	d := reopen(t, root, "erofs.size=8M")
	apply(t, d, "base", "", makeTar(t, file{name: "a"}))
	limited(t, d, "kept", nil)
	limited(t, d, "lost", nil)
	if err := os.Remove(filepath.Join(root, "erofs", "layers", "lost", "layer.json")); err != nil {
		t.Fatal(err)
	}
	reopen(t, root)
	if list := names(t, root, "quotas"); len(list) != 2 || list[1] != "kept" {
		t.Errorf("quotas/ has %v", list)
	}
}

// TestNoQuota wants limits refused where they could not be kept, with a way out, and nothing left behind.
func TestNoQuota(t *testing.T) {
	needRoot(t)
	root := ext4(t)
	d := reopen(t, root)
	apply(t, d, "base", "", makeTar(t, file{name: "a"}))
	for option, want := range map[string]string{"size": "no project quotas", "speed": "unknown"} {
		opts := &graphdriver.CreateOpts{StorageOpt: map[string]string{option: "1M"}}
		if err := d.CreateReadWrite("c", "base", opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v; want %q", option, err, want)
		}
	}
	opts := &graphdriver.CreateOpts{StorageOpt: map[string]string{"size": "1M"}}
	if err := d.Create("image", "", opts); err == nil || !strings.Contains(err.Error(), "only containers") {
		t.Errorf("an image's layer with a limit: %v", err)
	}
	wantNames(t, root, "layers", 1)
	if _, err := openDriver(root, "erofs.size=8M"); err == nil || !strings.Contains(err.Error(), "prjquota") {
		t.Errorf("a default that cannot be kept: %v", err)
	}
	// Without limits it goes on as before.
	limited(t, reopen(t, root), "c", nil)
}
