package shim

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// withImage gives the manifest an image volume: the file that is volume 9 of this store.
func (f *fixture) withImage() {
	v := f.makeVolume(9)
	f.manifest.Image = &v
}

// withRWLayer gives the container a disk to write on.
func (f *fixture) withRWLayer() {
	path := filepath.Join(filepath.Dir(f.manifest.MountPoint), volume.RWLayerName)
	f.must(os.WriteFile(path, make([]byte, 4096), 0o600))
	f.manifest.RWLayer = &volume.RWLayer{Path: path, FSType: "ext4", Size: 4096, FileID: f.fileID(path)}
}

// allow makes the handler offer modes, the first one by default.
func (f *fixture) allow(m ...kata.Mode) { f.handler.Modes, f.handler.Allow = m[:1], m }

// erofsMount is what runtime-rs gets of a volume.
func erofsMount(v *volume.ManifestVolume, verity bool) kata.Mount {
	m := kata.Mount{Type: "erofs", Source: v.Path, Options: []string{"ro", "loop"}}
	if verity {
		m.Options = append(m.Options, "X-containerd.dmverity="+v.Path+".dmverity")
	}
	return m
}

// TestModes has what becomes of one container of two layers in each mode, by default and at the pod's request.
func TestModes(t *testing.T) {
	overlay := kata.Mount{Type: "overlay", Source: "overlay"}
	empty := kata.Mount{Type: "erofs", Source: "/run/no.erofs", Options: []string{"ro", "loop"}}
	for _, c := range []struct {
		mode  kata.Mode
		rw    bool
		mount func(m *volume.Manifest) []kata.Mount
	}{
		{kata.ModeImageVerity, false, func(m *volume.Manifest) []kata.Mount {
			return []kata.Mount{erofsMount(m.Image, true), empty, overlay}
		}},
		{kata.ModeImageVerity, true, func(m *volume.Manifest) []kata.Mount {
			return []kata.Mount{erofsMount(m.Image, true), empty, overlay} // the disk is left out
		}},
		{kata.ModeImage, false, func(m *volume.Manifest) []kata.Mount {
			return []kata.Mount{erofsMount(m.Image, false), overlay}
		}},
		{kata.ModeLayer, true, func(m *volume.Manifest) []kata.Mount {
			return []kata.Mount{{Type: "ext4", Source: m.RWLayer.Path, Options: []string{"rw", "loop"}},
				erofsMount(&m.Volumes[1], false), erofsMount(&m.Volumes[0], false), overlay}
		}},
		{kata.ModeLayerVerity, true, func(m *volume.Manifest) []kata.Mount {
			return []kata.Mount{erofsMount(&m.Volumes[1], true), erofsMount(&m.Volumes[0], true), overlay}
		}},
		{kata.ModeSharedFS, false, func(*volume.Manifest) []kata.Mount { return nil }},
	} {
		for _, kind := range []string{containerTypeSandbox, "container"} {
			for _, requested := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, rw %t, %s, requested %t", c.mode, c.rw, kind, requested), func(t *testing.T) {
					f := newFixture(t, t.TempDir(), "ctr", kind, "pod", 2)
					f.withImage()
					if c.rw {
						f.withRWLayer()
					}
					f.allow(c.mode)
					if requested {
						f.allow(kata.ModeGuestPull, c.mode)
						f.annotations()[kata.AnnotationRequest] = string(c.mode)
					}
					f.settle(kind)
					got, err := f.decide()
					if err != nil || !slices.EqualFunc(got, c.mount(&f.manifest), equalMounts) {
						t.Errorf("%v\ngot  %+v\nwant %+v", err, got, c.mount(&f.manifest))
					}
				})
			}
		}
	}
}

// settle writes everything down after changes; a workload container gets its annotations.
func (f *fixture) settle(kind string) {
	f.writeManifest()
	if kind != containerTypeSandbox {
		request, requested := f.annotations()[kata.AnnotationRequest]
		f.annotate()
		if requested {
			f.annotations()[kata.AnnotationRequest] = request
		}
	}
	f.writeConfig()
}

// TestGuestPull: CRI-O's own mount goes through as it came; without one, one like it is made. A sandbox's image is
// "pause", whatever a pod's author wrote.
func TestGuestPull(t *testing.T) {
	f := newFixture(t, t.TempDir(), "ctr", "container", "pod", 1)
	f.allow(kata.ModeGuestPull)
	f.settle("container")
	own := pullMount(`{"volume_type":"image_guest_pull","source":"i","fs_type":"overlay_fs","image_pull":{"metadata":{}}}`)
	if got, err := f.decider().rootfs(createRequest{bundle: f.bundle, rootfs: []kata.Mount{own}}); err != nil || !got.keep {
		t.Errorf("CRI-O's mount: %+v, %v; want it to stay", got, err)
	}
	for kind, image := range map[string]string{"container": "example.org/busybox:1", containerTypeSandbox: "pause"} {
		f := newFixture(t, t.TempDir(), "ctr", kind, "pod", 1)
		f.allow(kata.ModeGuestPull)
		f.settle(kind)
		got, err := f.decide()
		if err != nil || len(got) != 1 || got[0].Type != "fuse.nydus-overlayfs" || got[0].Source != "" {
			t.Fatalf("%s: %+v, %v", kind, got, err)
		}
		v, err := kata.DecodeVirtualVolume(strings.TrimPrefix(got[0].Options[0], "io.katacontainers.volume="))
		if err != nil || v.Source != image || v.ImagePull.Metadata[annotationContainerType] != kind {
			t.Errorf("%s: %+v, %v; want image %s and the annotations", kind, v, err, image)
		}
	}
}

func pullMount(json string) kata.Mount {
	return kata.Mount{Type: "fuse.nydus-overlayfs",
		Options: []string{kata.VolumeOption + base64.StdEncoding.EncodeToString([]byte(json))}}
}

// TestVolumesInsteadOfGuestPull: with volumes in the handler's configuration, CRI-O's request for a pull gives way.
func TestVolumesInsteadOfGuestPull(t *testing.T) {
	f := newFixture(t, t.TempDir(), "ctr", "container", "pod", 2)
	own := pullMount(`{"volume_type":"image_guest_pull","source":"i","image_pull":{"metadata":{}}}`)
	got, err := f.decider().rootfs(createRequest{bundle: f.bundle, rootfs: []kata.Mount{own}})
	if err != nil || got.keep || len(got.rootfs) != 3 || got.rootfs[0].Type != "erofs" {
		t.Errorf("%+v, %v", got, err)
	}
	f.allow(kata.ModeSharedFS)
	f.settle("container")
	_, err = f.decider().rootfs(createRequest{bundle: f.bundle, rootfs: []kata.Mount{own}})
	if err == nil || !strings.Contains(err.Error(), "take runtime_pull_image out") {
		t.Errorf("shared-fs and a pull: %v", err)
	}
}

// TestForeignRootfs: what a request brings has to be CRI-O's guest pull, whatever the mode.
func TestForeignRootfs(t *testing.T) {
	raw := pullMount(`{"volume_type":"layer_raw_block","source":"/etc/shadow","fs_type":"erofs"}`)
	good := pullMount(`{"volume_type":"image_guest_pull","source":"i","image_pull":{"metadata":{}}}`)
	both := kata.Mount{Type: good.Type, Options: append(slices.Clone(good.Options), raw.Options...)}
	for _, c := range []struct {
		name   string
		rootfs []kata.Mount
		want   string
	}{
		{"raw block", []kata.Mount{raw}, `of type "layer_raw_block"`},
		{"both", []kata.Mount{both}, "2 options"},
		{"no option", []kata.Mount{{Type: good.Type}}, "0 options"},
		{"two mounts", []kata.Mount{good, {Type: "ext4"}}, "2 mounts"},
		{"bind mount", []kata.Mount{{Type: "bind", Source: "/"}}, `1 mounts of type ["bind"]`},
		{"garbage", []kata.Mount{{Type: good.Type, Options: []string{kata.VolumeOption + "%"}}}, "base64"},
		{"not JSON", []kata.Mount{pullMount("x")}, "invalid character"},
	} {
		f := newFixture(t, t.TempDir(), "ctr", "container", "pod", 1)
		for _, m := range []kata.Mode{kata.ModeLayerVerity, kata.ModeGuestPull, kata.ModeSharedFS} {
			f.allow(m)
			f.settle("container")
			got, err := f.decider().rootfs(createRequest{id: "c", bundle: f.bundle, rootfs: c.rootfs})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s in mode %s: %+v, %v; want %q", c.name, m, got, err, c.want)
			}
		}
	}
}

// TestModeRefusals has what a handler's or Kata's configuration forbids.
func TestModeRefusals(t *testing.T) {
	rust := func(version string) identity { return identity{program: "/shim", kind: kindRust, version: version} }
	for _, c := range []struct {
		name string
		make func(f *fixture, d *decider)
		want string
	}{
		{"configuration is broken", func(_ *fixture, d *decider) {
			d.handler = func() (modes.Handler, error) { return modes.Handler{}, fmt.Errorf("config.toml:3: unknown key") }
		}, "config.toml:3: unknown key"},
		{"runtime does not tell", func(_ *fixture, d *decider) {
			d.runtime = func() (identity, error) { return identity{program: "/shim"}, nil }
		}, "does not tell that it is Kata's"},
		{"runtime is too old", func(_ *fixture, d *decider) {
			d.runtime = func() (identity, error) { return rust("3.32.0"), nil }
		}, "is Kata 3.32.0"},
		{"Kata's configuration is not there", func(f *fixture, _ *decider) { f.handler.KataConfig = "/nonexistent.toml" },
			"/nonexistent.toml: no such file"},
		{"hypervisor without VMDK", func(f *fixture, _ *decider) { f.handler.Hypervisor = "cloud-hypervisor" },
			"hypervisor cloud-hypervisor attaches no disk of several files"},
		{"Kata's configuration forbids it", func(f *fixture, _ *decider) {
			f.handler.KataConfig = f.writeFile("kata.toml", "[hypervisor.qemu]\ndisable_block_device_use = true\n")
		}, "disable_block_device_use = true leaves runtime-rs without a block driver"},
		{"Kata would do something else", func(f *fixture, _ *decider) {
			f.handler.KataConfig = f.writeFile("kata.toml",
				"[hypervisor.qemu]\n[runtime]\nexperimental = [\"force_guest_pull\"]\n")
		}, "the runtime replaces every rootfs"},
		{"writable layer is another file", func(f *fixture, _ *decider) {
			f.withRWLayer()
			f.manifest.RWLayer.Inode++
			f.allow(kata.ModeLayer)
			f.settle("container")
		}, "writable layer"},
		{"block device that is none", func(f *fixture, _ *decider) {
			f.handler.Dialect = modes.DialectBlockDevice
			f.allow(kata.ModeSharedFS)
			f.settle("container")
		}, "rootfs is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, t.TempDir(), "ctr", "container", "pod", 2)
			d := f.decider()
			c.make(f, d)
			if got, err := d.rootfs(createRequest{id: f.id, bundle: f.bundle}); err == nil ||
				!strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v, %v; want %q", got, err, c.want)
			}
		})
	}
}

func (f *fixture) writeFile(name, content string) string {
	path := filepath.Join(f.dir, name)
	f.must(os.WriteFile(path, []byte(content), 0o600))
	return path
}

// TestKataConfigOfTheRequest: without a setting of ours, Kata reads the file that the environment or CRI-O's request
// names, and so does the shim.
func TestKataConfigOfTheRequest(t *testing.T) {
	f := newFixture(t, t.TempDir(), "ctr", "container", "pod", 2)
	clh := f.writeFile("clh.toml", "[hypervisor.clh]\n")
	qemu := f.writeFile("qemu.toml", "[hypervisor.qemu]\n")
	for _, c := range []struct {
		environment, request string
		refused              bool
	}{{"", "", false}, {"", clh, true}, {"", qemu, false}, {qemu, clh, false}, {clh, qemu, true}} {
		t.Setenv(envKataConfig, c.environment)
		_, err := f.decider().rootfs(createRequest{id: f.id, bundle: f.bundle, configPath: c.request})
		if (err != nil) != c.refused {
			t.Errorf("environment %q, request %q: %v", c.environment, c.request, err)
		}
	}
}
