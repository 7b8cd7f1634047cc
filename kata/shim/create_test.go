package shim

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// decider has the handler of a fixture and a runtime-rs that verifies.
func (f *fixture) decider() *decider {
	return &decider{
		sandbox:   f.annotations()[annotationSandboxID],
		handler:   func() (modes.Handler, error) { return f.handler, nil },
		runtime:   func() (identity, error) { return identity{program: "/shim", kind: kindRust, version: "4.1.0"}, nil },
		mounts:    func() (hostMounts, error) { return mountsOf(0) },
		emptyFile: "/run/no.erofs",
	}
}

func (f *fixture) decide() ([]kata.Mount, error) {
	got, err := f.decider().rootfs(createRequest{id: f.id, bundle: f.bundle})
	if err == nil && got.keep != (len(got.rootfs) == 0) {
		f.t.Errorf("kept is %t, with %d mounts", got.keep, len(got.rootfs))
	}
	return got.rootfs, err
}

func TestRootfsOfVolumes(t *testing.T) {
	f := newFixture(t, t.TempDir(), "ctr", "container", "pod", 3)
	got, err := f.decide()
	if err != nil {
		t.Fatal(err)
	}
	var want []kata.Mount
	for _, v := range []volume.ManifestVolume{f.manifest.Volumes[2], f.manifest.Volumes[1], f.manifest.Volumes[0]} {
		want = append(want, kata.Mount{Type: "erofs", Source: v.Path,
			Options: []string{"ro", "loop", "X-containerd.dmverity=" + v.Path + ".dmverity"}})
	}
	want = append(want, kata.Mount{Type: "overlay", Source: "overlay"})
	if !slices.EqualFunc(got, want, equalMounts) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestOneVolumeIsVerified: without the second erofs mount Kata would attach the volume and not verify it.
func TestOneVolumeIsVerified(t *testing.T) {
	f := newFixture(t, t.TempDir(), "pod", containerTypeSandbox, "pod", 1)
	got, err := f.decide()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].Source != f.manifest.Volumes[0].Path ||
		!equalMounts(got[1], kata.Mount{Type: "erofs", Source: "/run/no.erofs", Options: []string{"ro", "loop"}}) {
		t.Errorf("got %+v", got)
	}
}

func TestRelativeRootPath(t *testing.T) {
	f := newFixture(t, t.TempDir(), "ctr", "container", "pod", 2)
	rel, err := filepath.Rel(f.bundle, f.manifest.MountPoint)
	f.must(err)
	f.config["root"] = map[string]any{"path": rel}
	f.writeConfig()
	if got, err := f.decide(); err != nil || len(got) != 3 {
		t.Errorf("%+v, %v", got, err)
	}
}

func equalMounts(a, b kata.Mount) bool {
	return a.Type == b.Type && a.Source == b.Source && a.Target == b.Target && slices.Equal(a.Options, b.Options)
}

// refusals has what must never reach Kata: how a good container of three volumes is made bad, and the message.
var refusals = []struct {
	name string
	make func(f *fixture)
	want string
}{
	{"no bundle", func(f *fixture) { f.must(os.RemoveAll(f.bundle)) }, "no such file"},
	{"relative bundle", func(f *fixture) { f.bundle = "run" }, `bundle "run" is not an absolute path`},
	{"no root.path", func(f *fixture) { delete(f.config, "root") }, "no root.path"},
	{"user namespace", func(f *fixture) {
		f.config["linux"] = map[string]any{"namespaces": []any{map[string]any{"type": "user"}}}
		f.writeConfig()
	}, "the pod has a user namespace (hostUsers: false)"},
	{"other driver", func(f *fixture) { f.must(os.Remove(volume.ManifestPath(f.manifest.MountPoint))) },
		"layer-verity is not possible: the rootfs is not on the erofs storage driver"},
	{"manifest is a link", func(f *fixture) {
		path := volume.ManifestPath(f.manifest.MountPoint)
		f.must(os.Rename(path, path+".away"))
		f.must(os.Symlink(path+".away", path))
	}, "is a symbolic link, not a regular file"},
	{"manifest of another", func(f *fixture) { f.manifest.MountPoint += "2"; f.rewriteManifest() }, "moved or copied"},
	{"refusal", func(f *fixture) { f.manifest.Refusal = "layer abc is a directory"; f.writeManifest() },
		"cannot be given to a VM as volumes: layer abc is a directory"},
	{"no verity", func(f *fixture) { f.manifest.Volumes[1].Verity = nil; f.writeManifest() }, "has no dm-verity tree"},
	{"manifest in a directory of others", func(f *fixture) {
		f.must(os.Chmod(filepath.Dir(f.manifest.MountPoint), 0o777))
	}, "others than its owner could put another file there"},
	{"volume in a directory of others", func(f *fixture) { f.must(os.Chmod(filepath.Dir(f.volume()), 0o775)) },
		"others than its owner could put another file there"},
	{"volume in a directory of somebody", func(f *fixture) { f.must(os.Chown(filepath.Dir(f.volume()), 12345, 0)) },
		"is owned by uid 12345, who could put another file there"},
	{"volumes behind a link of somebody", func(f *fixture) {
		f.link(filepath.Dir(f.volume()))
		f.must(os.Lchown(filepath.Dir(f.volume()), 12345, 0))
	}, "is owned by uid 12345, who could put another file there"},
	{"volume replaced by its copy", func(f *fixture) {
		b, err := os.ReadFile(f.volume())
		f.must(err)
		f.must(os.Rename(f.volume(), f.volume()+".away"))
		f.must(os.WriteFile(f.volume(), b, 0o600))
	}, "another file was put in its place: device and inode are"},
	{"512-byte blocks", func(f *fixture) {
		v := f.manifest.Volumes[0].Verity
		v.DataBlockSize, v.DataBlocks = 512, v.DataBlocks*8
		f.writeManifest()
	}, "data blocks of 512 bytes"},
	{"volume is missing", func(f *fixture) { f.must(os.Remove(f.volume())) }, "no such file"},
	{"volume is a link", func(f *fixture) { f.link(f.volume()) }, "layer.erofs is a symbolic link, not a regular file"},
	{"volume is a fifo", func(f *fixture) { f.replaceByFifo(f.volume()) }, "is not a regular file"},
	{"volume grew", func(f *fixture) { f.truncate(f.volume(), 4096) }, "but the manifest says"},
	{"volume shrank", func(f *fixture) { f.truncate(f.volume(), -4096) }, "but the manifest says"},
	{"volume is writable by all", func(f *fixture) { f.must(os.Chmod(f.volume(), 0o666)) }, "lets others than the owner"},
	{"volume of somebody else", func(f *fixture) { f.must(os.Chown(f.volume(), 12345, 0)) }, "owned by uid 12345"},
	{"no superblock", func(f *fixture) { f.poke(int64(f.verity().HashOffset), "nothing") }, "no verity superblock"},
	{"wrong algorithm", func(f *fixture) { f.poke(int64(f.verity().HashOffset)+32, "sha512") }, "sha512"},
	{"salted", func(f *fixture) { f.poke(int64(f.verity().HashOffset)+80, "\x20\x00") }, "salt of 32 bytes"},
	{"other tree", func(f *fixture) { f.poke(int64(f.verity().TreeOffset), "evil") }, "but the manifest says"},
	{"volumes swapped", func(f *fixture) {
		a, b := f.manifest.Volumes[0].Path, f.manifest.Volumes[1].Path
		f.must(os.Rename(a, a+".x"))
		f.must(os.Rename(b, a))
		f.must(os.Rename(a+".x", b))
	}, "another file was put in its place"},
	{"sidecar is missing", func(f *fixture) { f.must(os.Remove(f.sidecar(0))) }, "no such file"},
	{"sidecar is a link", func(f *fixture) { f.link(f.sidecar(0)) }, "is a symbolic link"},
	{"sidecar of another", func(f *fixture) { f.must(os.Rename(f.sidecar(1), f.sidecar(0))) }, "verity description"},
	{"sidecar without salt", func(f *fixture) {
		f.write(f.sidecar(0), `{"roothash":"`+f.verity().RootHash+`","hashoffset":8192}`)
	}, "verity description"},
	{"sidecar is not JSON", func(f *fixture) { f.write(f.sidecar(0), "hash") }, "verity description"},
	{"hook is not running", func(f *fixture) {
		for key := range f.annotations() {
			if kata.IsReserved(key) {
				delete(f.annotations(), key)
			}
		}
	}, "the NRI plugin crio-erofs-hook has not annotated this container: is it running?"},
	{"annotation is missing", func(f *fixture) { delete(f.annotations(), kata.VolumeKey(2)) },
		"annotation io.katacontainers.volume.2 is missing"},
	{"annotation is garbage", func(f *fixture) { f.annotations()[kata.VolumeKey(1)] = "%%%" }, "base64"},
	{"annotation names another file", func(f *fixture) {
		f.reannotate(0, func(v *kata.VirtualVolume) { v.Source = "/etc/shadow" })
	}, "source is /etc/shadow, want"},
	{"annotation has another hash", func(f *fixture) {
		f.reannotate(1, func(v *kata.VirtualVolume) { v.DMVerity.Hash = strings.Repeat("0", 64) })
	}, "dm_verity.hash is 0000"},
	{"annotation has another offset", func(f *fixture) {
		f.reannotate(1, func(v *kata.VirtualVolume) { v.DMVerity.Offset += 4096 })
	}, "dm_verity.offset is"},
	{"annotation without verity", func(f *fixture) {
		f.reannotate(1, func(v *kata.VirtualVolume) { v.DMVerity = nil })
	}, "dm_verity present is false, want true"},
	{"annotation is writable", func(f *fixture) {
		f.reannotate(1, func(v *kata.VirtualVolume) { v.Options = nil })
	}, "options is [], want [ro]"},
	{"annotations out of order", func(f *fixture) {
		a := f.annotations()
		a[kata.VolumeKey(0)], a[kata.VolumeKey(1)] = a[kata.VolumeKey(1)], a[kata.VolumeKey(0)]
	}, "does not match the manifest"},
	{"one annotation too many", func(f *fixture) {
		f.annotations()[kata.VolumeKey(3)] = f.annotations()[kata.VolumeKey(2)]
	}, "annotation io.katacontainers.volume.3 does not belong to this container"},
	{"annotation of ours that nobody knows", func(f *fixture) { f.annotations()["io.katacontainers.erofs.x"] = "" },
		"annotation io.katacontainers.erofs.x does not belong to this container"},
	{"extra option of another", func(f *fixture) { f.annotations()[kata.ExtraOptionKey(1)] = "e30=" },
		"annotation io.katacontainers.extraoption.1 does not match the manifest: it is \"e30=\""},
	{"mode without verity", func(f *fixture) { f.annotations()[kata.AnnotationMode] = "layer" },
		`is "layer", but by the handler's configuration this container has mode layer-verity`},
	{"unknown mode", func(f *fixture) { f.annotations()[kata.AnnotationMode] = "fast" }, `is "fast", but`},
	{"other root hashes", func(f *fixture) { f.annotations()[kata.AnnotationRootHash] = "-" },
		"annotation io.katacontainers.erofs.root-hash does not match the manifest: it is \"-\""},
	{"request that is not allowed", func(f *fixture) { f.annotations()[kata.AnnotationRequest] = "shared-fs" },
		"the pod requests mode shared-fs, which handler kata-erofs does not allow"},
	{"request that does not exist", func(f *fixture) { f.annotations()[kata.AnnotationRequest] = "fast" },
		"requests a mode that does not exist"},
	{"request for an image that there is not", func(f *fixture) {
		f.annotations()[kata.AnnotationRequest] = "image-verity"
	}, "the store has no volume of the whole image"},
}

func TestRefusals(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give files away")
	}
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			f := newFixture(t, t.TempDir(), "ctr", "container", "pod", 3)
			r.make(f)
			if _, err := os.Stat(f.bundle); err == nil && filepath.IsAbs(f.bundle) {
				f.writeConfig()
			}
			got, err := f.decide()
			if err == nil {
				t.Fatalf("was let through with %+v", got)
			}
			if !strings.Contains(err.Error(), r.want) {
				t.Errorf("error is %q, want %q in it", err, r.want)
			}
		})
	}
}

func TestTooManyVolumes(t *testing.T) {
	f := newFixture(t, t.TempDir(), "ctr", "container", "pod", 1)
	for len(f.manifest.Volumes) <= kata.MaxRootfsVolumes {
		f.manifest.Volumes = append(f.manifest.Volumes, f.manifest.Volumes[0])
	}
	f.writeManifest()
	if _, err := f.decide(); err == nil || !strings.Contains(err.Error(), "129 volumes, and Kata takes at most 128") {
		t.Errorf("error is %v", err)
	}
}

func TestSandboxNeedsNoAnnotations(t *testing.T) {
	f := newFixture(t, t.TempDir(), "pod", containerTypeSandbox, "pod", 2)
	// NRI cannot adjust it, and what a pod's author writes there is not looked at.
	f.annotations()[kata.VolumeKey(0)] = "evil"
	f.writeConfig()
	if got, err := f.decide(); err != nil || len(got) != 3 {
		t.Errorf("%+v, %v", got, err)
	}
}

func BenchmarkDecide(b *testing.B) {
	f := newFixture(b, b.TempDir(), "ctr", "container", "pod", 20)
	for b.Loop() {
		if _, err := f.decide(); err != nil {
			b.Fatal(err)
		}
	}
}

func (f *fixture) volume() string         { return f.manifest.Volumes[0].Path }
func (f *fixture) sidecar(i int) string   { return f.manifest.Volumes[i].Path + ".dmverity" }
func (f *fixture) verity() *volume.Verity { return f.manifest.Volumes[0].Verity }

// rewriteManifest writes the manifest beside the mount point that config.json names.
func (f *fixture) rewriteManifest() {
	f.writeJSON(volume.ManifestPath(f.config["root"].(map[string]any)["path"].(string)), &f.manifest)
}

func (f *fixture) link(path string) {
	f.must(os.Rename(path, path+".away"))
	f.must(os.Symlink(path+".away", path))
}

func (f *fixture) truncate(path string, by int64) {
	fi, err := os.Stat(path)
	f.must(err)
	f.must(os.Truncate(path, fi.Size()+by))
}

// poke overwrites bytes of volume 0.
func (f *fixture) poke(offset int64, s string) {
	file, err := os.OpenFile(f.volume(), os.O_WRONLY, 0)
	f.must(err)
	defer file.Close()
	_, err = file.WriteAt([]byte(s), offset)
	f.must(err)
}

func (f *fixture) write(path, s string) { f.must(os.WriteFile(path, []byte(s), 0o644)) }

// reannotate replaces the annotation of volume i by one that Kata would take, too.
func (f *fixture) reannotate(i int, change func(*kata.VirtualVolume)) {
	v := kata.NewLayerVolume(&f.manifest.Volumes[i])
	change(v)
	s, err := v.Encode()
	f.must(err)
	f.annotations()[kata.VolumeKey(i)] = s
}
