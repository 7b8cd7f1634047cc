package driver_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	graphdriver "github.com/containers/storage/drivers"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// TestHostMounts has two containers of one image, a container of another that shares a layer, and counts host mounts.
func TestHostMounts(t *testing.T) {
	needRoot(t)
	for _, mode := range []string{"auto", "loop"} {
		t.Run(mode, func(t *testing.T) {
			d, root := newDriver(t, "erofs.mount="+mode)
			apply(t, d, "base", "", makeTar(t, file{name: "base", content: "b"}))
			apply(t, d, "app", "base", makeTar(t, file{name: "app", content: "a"}))
			for id, image := range map[string]string{"c1": "app", "c2": "app", "c3": "base"} {
				if err := d.CreateReadWrite(id, image, nil); err != nil {
					t.Fatal(err)
				}
				get(t, d, id)
			}
			second := reopen(t, root, "erofs.mount="+mode) // Init releases what is not in use
			steps := []struct {
				d    graphdriver.Driver
				id   string
				want int
			}{{d, "c1", 2}, {second, "c2", 1}, {d, "c3", 0}}
			if n := len(mountsIn(t, root, "mounts")); n != 2 {
				t.Errorf("%d host mounts for two volumes", n)
			}
			for _, step := range steps {
				put(t, step.d, step.id)
				if n := len(mountsIn(t, root, "mounts")); n != step.want {
					t.Errorf("%d host mounts after unmounting %s, want %d", n, step.id, step.want)
				}
			}
		})
	}
}

// TestHostMountSource checks what Kata's Go runtime insists on: an EROFS mount whose source, or whose loop device's
// backing file, is named layer.erofs (src/runtime/virtcontainers/container.go, createErofsDevices).
func TestHostMountSource(t *testing.T) {
	needRoot(t)
	for _, mode := range []string{"auto", "loop"} {
		t.Run(mode, func(t *testing.T) {
			d, root := newDriver(t, "erofs.mount="+mode)
			apply(t, d, "base", "", makeTar(t, file{name: "f", content: "x"}))
			get(t, d, "base")
			mounts := mountsIn(t, root, "mounts")
			if len(mounts) != 1 || mounts[0].FSType != "erofs" {
				t.Fatalf("host mounts: %v", mounts)
			}
			source := mounts[0].Source
			if name, ok := strings.CutPrefix(source, "/dev/"); ok {
				b, err := os.ReadFile("/sys/block/" + name + "/loop/backing_file")
				if err != nil {
					t.Fatal(err)
				}
				source = strings.TrimSpace(string(b))
			}
			if filepath.Base(source) != volume.FileName {
				t.Errorf("host mount has source %q", source)
			}
		})
	}
}

// TestReadOnlyLayer mounts image layers: one layer alone, with a whiteout in it, and two.
func TestReadOnlyLayer(t *testing.T) {
	needRoot(t)
	d, _ := newDriver(t)
	apply(t, d, "base", "", makeTar(t, file{name: "a", content: "a"}, file{name: ".wh.never"}))
	apply(t, d, "top", "base", makeTar(t, file{name: ".wh.a"}, file{name: "b", content: "b"}))
	for id, want := range map[string]string{"base": "/a ---------- a", "top": "/b ---------- b"} {
		root := get(t, d, id)
		if got := tree(t, root); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", id, got, want)
		}
		if err := os.WriteFile(root+"/new", nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: writing gives %v", id, err)
		}
		put(t, d, id)
	}
}

// TestGetTwice checks that a layer is mounted until it was put as often as it was got.
func TestGetTwice(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	apply(t, d, "base", "", makeTar(t, file{name: "a", content: "a"}))
	if err := d.CreateReadWrite("c", "base", nil); err != nil {
		t.Fatal(err)
	}
	get(t, d, "c")
	get(t, d, "c")
	for _, want := range []int{1, 0} {
		put(t, d, "c")
		if n := len(mountsIn(t, root, "layers")); n != want {
			t.Errorf("%d mounts, want %d", n, want)
		}
	}
	put(t, d, "c") // once too often is no error
	if err := d.Put("unknown"); !os.IsNotExist(err) {
		t.Errorf("Put of an unknown layer: %v", err)
	}
	if _, err := d.Get("unknown", graphdriver.MountOpts{}); !errors.Is(err, graphdriver.ErrLayerUnknown) {
		t.Errorf("Get of an unknown layer: %v", err)
	}
}

// TestReboot takes all mounts away, as a reboot does, and gets the container again.
func TestReboot(t *testing.T) {
	needRoot(t)
	for _, fresh := range []bool{false, true} {
		d, root := newDriver(t)
		apply(t, d, "base", "", makeTar(t, file{name: "a", content: "a"}))
		if err := d.CreateReadWrite("c", "base", nil); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(get(t, d, "c")+"/b", []byte("b"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, m := range append(mountsIn(t, root, "layers"), mountsIn(t, root, "mounts")...) {
			if err := unix.Unmount(m.Mountpoint, 0); err != nil {
				t.Fatal(err)
			}
		}
		if fresh {
			d = reopen(t, root)
			if n := len(mountsIn(t, root, "mounts")); n != 0 {
				t.Errorf("Init makes %d host mounts", n)
			}
		}
		if got, want := tree(t, get(t, d, "c")), "/a ---------- a\n/b ---------- b"; got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		put(t, d, "c")
	}
}

// TestOldKernel mounts as kernels before Linux 6.7 make us do, with a label-free container above two volumes.
func TestOldKernel(t *testing.T) {
	needRoot(t)
	d, _ := newDriver(t, "erofs.mount=loop")
	driver.UseMountString(d)
	apply(t, d, "base", "", makeTar(t, file{name: "a", content: "a"}))
	apply(t, d, "top", "base", makeTar(t, file{name: "b", content: "b"}))
	if err := d.CreateReadWrite("c", "top", nil); err != nil {
		t.Fatal(err)
	}
	root, err := d.Get("c", graphdriver.MountOpts{Options: []string{"nodev", "metacopy=on"}, Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, root), "/a ---------- a\n/b ---------- b"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestManifestRefusal has a container above a directory layer: no volumes for a VM.
func TestManifestRefusal(t *testing.T) {
	needRoot(t)
	d, _ := newDriver(t)
	if err := d.Create("written", "", nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(get(t, d, "written")+"/f", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, d, "written")
	for id, parent := range map[string]string{"c1": "written", "c2": ""} {
		if err := d.CreateReadWrite(id, parent, nil); err != nil {
			t.Fatal(err)
		}
		m, err := volume.ReadManifest(get(t, d, id))
		if err != nil {
			t.Fatal(err)
		}
		if m.Refusal == "" || m.ID != id {
			t.Errorf("manifest of %s: %+v", id, m)
		}
	}
}

// TestAwkwardPath has a store in a directory whose path is longer than fsconfig(2) takes, and full of characters that
// mean something to mount(2).
func TestAwkwardPath(t *testing.T) {
	needRoot(t)
	for _, old := range []bool{false, true} {
		root := filepath.Join(t.TempDir(), strings.Repeat("a:b,c d\\e", 25), strings.Repeat("x", 60))
		if err := os.MkdirAll(root, 0o700); err != nil {
			t.Fatal(err)
		}
		d := reopen(t, root)
		if old {
			driver.UseMountString(d)
		}
		apply(t, d, "base", "", makeTar(t, file{name: "a", content: "a"}))
		apply(t, d, "top", "base", makeTar(t, file{name: "b", content: "b"}))
		if err := d.CreateReadWrite("c", "top", nil); err != nil {
			t.Fatal(err)
		}
		if got, want := tree(t, get(t, d, "c")), "/a ---------- a\n/b ---------- b"; got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if n := len(mountsIn(t, root, "mounts")); n != 2 {
			t.Errorf("%d host mounts, want 2", n)
		}
		put(t, d, "c")
		if n := len(mountsIn(t, root, "")); n != 0 {
			t.Errorf("%d mounts left", n)
		}
	}
}

// TestSymlinkedHome has a store whose path leads through a symbolic link, which the kernel's list of mounts does not
// show.
func TestSymlinkedHome(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	d := reopen(t, link)
	apply(t, d, "base", "", makeTar(t, file{name: "a", content: "a"}))
	if err := d.CreateReadWrite("c", "base", nil); err != nil {
		t.Fatal(err)
	}
	m, err := volume.ReadManifest(get(t, d, "c"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(m.MountPoint, root) || !strings.HasPrefix(m.Volumes[0].Path, root) {
		t.Errorf("manifest names %s and %s, want paths below %s", m.MountPoint, m.Volumes[0].Path, root)
	}
	put(t, d, "c")
	if n := len(mountsIn(t, root, "")); n != 0 {
		t.Errorf("%d mounts left", n)
	}
}

// TestVolatile mounts a volatile container twice: the kernel refuses the second time unless its mark is removed.
func TestVolatile(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	apply(t, d, "base", "", makeTar(t, file{name: "a", content: "a"}))
	if err := d.CreateReadWrite("c", "base", nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := d.Get("c", graphdriver.MountOpts{Volatile: true}); err != nil {
			t.Fatal(err)
		}
		mounts := mountsIn(t, root, "layers")
		if len(mounts) != 1 || !strings.Contains(mounts[0].VFSOptions, "volatile") {
			t.Errorf("not mounted volatile: %+v", mounts)
		}
		put(t, d, "c")
	}
}

// TestMountOptions checks that options for the mount and for overlayfs both get where they belong.
func TestMountOptions(t *testing.T) {
	needRoot(t)
	for _, old := range []bool{false, true} {
		d, root := newDriver(t)
		if old {
			driver.UseMountString(d)
		}
		apply(t, d, "base", "", makeTar(t, file{name: "a", content: "a"}))
		if err := d.CreateReadWrite("c", "base", nil); err != nil {
			t.Fatal(err)
		}
		get(t, d, "c", "nodev", "nosuid", "xino=on", "metacopy=on")
		mounts := mountsIn(t, root, "layers")
		if len(mounts) != 1 || !strings.Contains(mounts[0].Options, "nosuid,nodev") ||
			!strings.Contains(mounts[0].VFSOptions, "xino=on") || strings.Contains(mounts[0].VFSOptions, "metacopy=on") {
			t.Errorf("options not as wanted: %+v", mounts[0])
		}
		put(t, d, "c")
		if _, err := d.Get("c", graphdriver.MountOpts{Options: []string{"nonsense=1"}}); err == nil {
			t.Error("an option that overlayfs does not know is accepted")
		}
		if n := len(mountsIn(t, root, "")); n != 0 {
			t.Errorf("a failed Get leaves %d mounts", n)
		}
	}
}
