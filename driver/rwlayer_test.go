package driver_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/reexec"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/trap"
	fstest "github.com/crio-erofs/crio-erofs/test/tree"
)

// TestRWLayer gives each container a disk of its own, which the kernel takes and which can be filled, and which lasts
// as long as the container.
func TestRWLayer(t *testing.T) {
	needRoot(t)
	fstest.RequireTool(t, "e2fsck")
	for name, root := range map[string]string{"copied": ext4(t), "shared blocks": xfs(t)} {
		t.Run(name, func(t *testing.T) {
			d := reopen(t, root, "erofs.rw_layer=ext4", "erofs.rw_size=64M")
			top := pull(t, d, "image", imageLayers(t)...)
			uuids := map[string]bool{}
			for _, id := range []string{"c1", "c2"} {
				m := start(t, d, id, top)
				checkRWLayer(t, m)
				uuids[uuidOf(t, m.RWLayer.Path)] = true
			}
			if len(uuids) != 2 {
				t.Errorf("UUIDs %v; want two", uuids)
			}
			m, err := volume.ReadManifest(filepath.Join(driver.Home(d), "layers/c1/merged"))
			if err != nil {
				t.Fatal(err)
			}
			fill(t, m.RWLayer.Path)
			usage := rwUsage(t, d, "c1")
			if usage < 32<<20 || rwUsage(t, d, "c2") > 4<<20 {
				t.Errorf("full: %d bytes used, new: %d", usage, rwUsage(t, d, "c2"))
			}
			put(t, d, "c1")
			d = reopen(t, root, "erofs.rw_layer=ext4", "erofs.rw_size=32M") // for new containers
			again, err := volume.ReadManifest(get(t, d, "c1"))
			if err != nil || *again.RWLayer != *m.RWLayer || rwUsage(t, d, "c1") != usage {
				t.Errorf("after a restart %+v, %v; want %+v", again, err, m.RWLayer)
			}
			put(t, d, "c1")
			put(t, d, "c2")
			remove(t, d, "c1", "c2")
			wantNames(t, root, "layers", len(imageLayers(t)))
			wantNames(t, root, "tmp", 0)
			wantNames(t, root, "templates", 1)
		})
	}
}

// checkRWLayer wants the file of the manifest to be a clean file system of 64 MiB that takes little space.
func checkRWLayer(t *testing.T, m *volume.Manifest) {
	t.Helper()
	if m.RWLayer == nil {
		t.Fatal("no writable layer in the manifest")
	}
	fi, err := os.Stat(m.RWLayer.Path)
	if err != nil {
		t.Fatal(err)
	}
	id, err := volume.FileIDOf(fi)
	if err != nil || id != m.RWLayer.FileID || fi.Size() != 64<<20 || m.RWLayer.Size != 64<<20 {
		t.Errorf("%+v, %v, %d bytes; manifest %+v", id, err, fi.Size(), m.RWLayer)
	}
	if out, err := exec.Command("e2fsck", "-fn", m.RWLayer.Path).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v: %s", err, out)
	}
}

func uuidOf(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command("dumpe2fs", "-h", path).CombinedOutput()
	if err != nil {
		t.Fatalf("dumpe2fs: %v: %s", err, out)
	}
	for _, want := range []string{"metadata_csum_seed", "Remount read-only"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in %s", want, out)
		}
	}
	return regexp.MustCompile(`UUID: +(\S+)`).FindStringSubmatch(string(out))[1]
}

// fill mounts a writable layer and writes to it as a container does, until it is full.
func fill(t *testing.T, path string) {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-o", "loop", path, dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	for _, sub := range []string{"upper", "work"} {
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(dir, sub), &st); err != nil || st.Mode != syscall.S_IFDIR|0o755 || st.Uid != 0 {
			t.Errorf("%s: mode %o, uid %d, %v", sub, st.Mode, st.Uid, err)
		}
	}
	f, err := os.Create(filepath.Join(dir, "upper", "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for i := range buf {
		buf[i] = byte(i)
	}
	for n := 0; err == nil && n < 100; n++ {
		_, err = f.Write(buf)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("writing 100 MiB to 64: %v", err)
	}
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
}

func rwUsage(t *testing.T, d graphdriver.Driver, id string) int64 {
	t.Helper()
	usage, err := d.ReadWriteDiskUsage(id)
	if err != nil {
		t.Fatal(err)
	}
	return usage.Size
}

// TestRWLayerFails leaves nothing where a writable layer cannot be made.
func TestRWLayerFails(t *testing.T) {
	needRoot(t)
	root := ext4(t)
	d := reopen(t, root, "erofs.rw_layer=ext4", "erofs.rw_size=1G")
	apply(t, d, "image", "", makeTar(t))
	if err := d.CreateReadWrite("c", "image", nil); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "/nowhere")
	if _, err := d.Get("c", graphdriver.MountOpts{}); err == nil || !strings.Contains(err.Error(), "mkfs.ext4") {
		t.Errorf("without mkfs.ext4: %v", err)
	}
	wantNames(t, root, "layers/c", 4) // diff, work, merged, layer.json
	wantNames(t, root, "tmp", 0)
	wantNames(t, root, "templates", 0)
	for _, options := range [][]string{{"erofs.rw_layer=ext4"}, {"erofs.rw_size=1M"}, {"erofs.rw_size=lots"}} {
		if _, err := openDriver(t.TempDir(), options...); err == nil {
			t.Errorf("%v accepted", options)
		}
	}
}

// TestRWLayerKilled kills a process that is about to give a writable layer its name: nothing of it is left.
func TestRWLayerKilled(t *testing.T) {
	needRoot(t)
	root := ext4(t)
	options := []string{"erofs.rw_layer=ext4", "erofs.rw_size=64M"}
	d := reopen(t, root, options...)
	apply(t, d, "base", "", content(1))
	input, err := json.Marshal(life{Root: root, Options: options, Steps: []step{{"start", "c", "base", 0}}})
	if err != nil {
		t.Fatal(err)
	}
	cmd := reexec.Command(lifeName)
	cmd.Stdin = bytes.NewReader(input)
	err = trap.Run(cmd, func(c *trap.Call) trap.Verdict {
		if c.Name() == "linkat" && filepath.Base(c.Path()) == volume.RWLayerName {
			return trap.Kill
		}
		return trap.Go
	})
	if !errors.Is(err, trap.ErrKilled) {
		t.Fatalf("the process was not killed: %v", err)
	}
	d = reopen(t, root, options...)
	left, err := filepath.Glob(filepath.Join(driver.Home(d), "layers/c", volume.RWLayerName+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
	m, err := volume.ReadManifest(get(t, d, "c"))
	if err != nil {
		t.Fatal(err)
	}
	checkRWLayer(t, m)
	put(t, d, "c")
}
