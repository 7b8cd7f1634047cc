package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// TestGoDialect gives Kata's Go runtime real mounts of volumes, and its rules (createErofsDevices in
// src/runtime/virtcontainers/container.go) find the files again.
func TestGoDialect(t *testing.T) {
	f := newFixture(t, t.TempDir(), "ctr", "container", "pod", 2)
	f.allow(kata.ModeLayer)
	f.settle("container")
	d := f.decider()
	d.runtime = func() (identity, error) { return identity{program: "/shim", kind: kindGo, version: "4.1.0"}, nil }
	decide := func() ([]kata.Mount, error) {
		got, err := d.rootfs(createRequest{id: f.id, bundle: f.bundle})
		return got.rootfs, err
	}
	if got, err := decide(); err == nil || !strings.Contains(err.Error(), "is not mounted where the real shim sees it") {
		t.Fatalf("without mounts: %+v, %v", got, err)
	}
	var want []string
	for i := range f.manifest.Volumes {
		at := filepath.Join(f.dir, "mounts", filepath.Base(filepath.Dir(f.manifest.Volumes[i].Path)))
		f.mountVolume(f.manifest.Volumes[i].Path, at)
		want = append([]string{at}, want...)
	}
	got, err := decide()
	if err != nil {
		t.Fatal(err)
	}
	lowers := "lowerdir=" + strings.Join(want, ":")
	if len(got) != 1 || got[0].Type != "overlay" || got[0].Source != "overlay" || len(got[0].Options) != 1 ||
		got[0].Options[0] != lowers {
		t.Errorf("got %+v, want %s", got, lowers)
	}
	mounts, err := mountsOf(os.Getpid())
	f.must(err)
	for i, at := range want {
		if file, ok := goRuntimeFinds(mounts, at); !ok || file != f.manifest.Volumes[len(want)-1-i].Path {
			t.Errorf("the Go runtime finds %q behind %s", file, at)
		}
	}
	f.allow(kata.ModeLayerVerity)
	f.settle("container")
	if got, err := decide(); err == nil || !strings.Contains(err.Error(), "cannot verify volumes") {
		t.Errorf("with verity: %+v, %v", got, err)
	}
}

func (f *fixture) mountVolume(file, at string) {
	f.t.Helper()
	f.mkdir(at)
	if err := unix.Mount(file, at, "erofs", unix.MS_RDONLY, ""); err != nil {
		f.t.Skipf("mount an EROFS image from a file (Linux 6.12): %v", err)
	}
	f.t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			f.t.Error(err)
		}
	})
}

// goRuntimeFinds is findErofsMountSource and what createErofsDevices makes of it.
func goRuntimeFinds(mounts hostMounts, path string) (file string, ok bool) {
	for _, m := range mounts {
		if m.FSType == "erofs" && m.Mountpoint == path {
			return m.Source, filepath.Base(m.Source) == "layer.erofs"
		}
	}
	return "", false
}

// TestBlockDeviceRootfs mounts a rootfs from a block device, the rootfs being the device's root or a directory of it,
// or a directory that is just somewhere on it.
func TestBlockDeviceRootfs(t *testing.T) {
	f := newFixture(t, t.TempDir(), "ctr", "container", "pod", 1)
	loop := f.loopMount(filepath.Join(f.dir, "dev"))
	for _, c := range []struct {
		root, kind, config string
		device             string // "" for a refusal or if the runtime finds it by itself
		want               string
	}{
		{"", kindRust, "", loop, ""},
		{"", kindGo, "", "", ""},
		{"rootfs", kindGo, "", "", ""},
		{"rootfs", kindRust, "", "", "runtime-rs takes the device's root only"},
		{"other", kindGo, "", "", "Kata would plug in all of it"},
		{"", kindGo, "disable_block_device_use = true\n", "", "not on a block device of its own"},
	} {
		root := filepath.Join(f.dir, "dev", c.root)
		f.mkdir(root)
		f.config["root"] = map[string]any{"path": root}
		f.handler.Dialect, f.handler.KataConfig = modes.DialectBlockDevice, f.writeFile("k.toml", "[hypervisor.qemu]\n"+c.config)
		f.allow(kata.ModeSharedFS)
		f.settle("container")
		d := f.decider()
		d.runtime = func() (identity, error) { return identity{program: "/shim", kind: c.kind, version: "4.1.0"}, nil }
		got, err := d.rootfs(createRequest{id: f.id, bundle: f.bundle})
		switch {
		case c.want != "":
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q, %s: %+v, %v; want %q", c.root, c.kind, got, err, c.want)
			}
		case err != nil, c.device == "" && !got.keep, c.device != "" && (len(got.rootfs) != 1 ||
			!equalMounts(got.rootfs[0], kata.Mount{Type: "ext4", Source: c.device})):
			t.Errorf("%q, %s: %+v, %v; want device %q", c.root, c.kind, got, err, c.device)
		}
	}
	// A handler that shares directories is kept from the same trap, unless Kata's configuration rules it out.
	f.handler.Dialect = modes.DialectGo
	for config, refused := range map[string]bool{"": true, "disable_block_device_use = true\n": false} {
		f.handler.KataConfig = f.writeFile("k.toml", "[hypervisor.qemu]\n"+config)
		f.config["root"] = map[string]any{"path": filepath.Join(f.dir, "dev", "other")}
		f.settle("container")
		d := f.decider()
		d.runtime = func() (identity, error) { return identity{program: "/shim", kind: kindGo, version: "4.1.0"}, nil }
		if got, err := d.rootfs(createRequest{id: f.id, bundle: f.bundle}); (err != nil) != refused {
			t.Errorf("shared directory on a partition, %q: %+v, %v", config, got, err)
		}
	}
}
