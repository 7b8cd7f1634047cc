package hooks_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/hooks"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

var (
	hashA = strings.Repeat("a", 64)
	hashB = strings.Repeat("b", 64)
)

// layer returns a volume of 10 data blocks; without dm-verity if hash is empty.
func layer(hash string) volume.ManifestVolume {
	v := volume.ManifestVolume{Path: "/store/volumes/x" + hash[:min(24, len(hash))] + "/layer.erofs", LayerID: "l"}
	v.Layout, v.FormatVersion, v.Size = volume.LayoutAligned, 1, 49152
	if hash != "" {
		v.Verity = &volume.Verity{RootHash: hash, Algorithm: "sha256", HashType: 1, DataBlockSize: 4096,
			HashBlockSize: 4096, DataBlocks: 10, HashOffset: 40960, TreeOffset: 45056}
	}
	return v
}

// container writes a manifest of these volumes and returns the mount point that it is for.
func container(t testing.TB, refusal string, volumes ...volume.ManifestVolume) string {
	t.Helper()
	mountPoint := filepath.Join(t.TempDir(), "merged")
	b, err := json.Marshal(volume.Manifest{Version: volume.ManifestVersion, ID: "c", MountPoint: mountPoint,
		Volumes: volumes, Refusal: refusal})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(volume.ManifestPath(mountPoint), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return mountPoint
}

// config has a handler for every way to decide.
const config = `
[handlers.kata-erofs]
modes = ["image-verity", "layer-verity", "layer"]
allow = ["image-verity", "layer-verity", "layer", "guest-pull"]
[handlers.kata-remote]
modes = ["guest-pull"]
[handlers.kata-shared]
modes = ["shared-fs"]
`

func annotate(t testing.TB, handler string, annotations map[string]string, mountPoint string) (
	*hooks.Adjustment, error) {
	t.Helper()
	c, err := modes.Parse("config.toml", []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	return hooks.Annotate(c, hooks.Container{Handler: handler, MountPoint: mountPoint, Annotations: annotations})
}

func TestAnnotateSets(t *testing.T) {
	for _, tt := range []struct {
		name    string
		volumes []volume.ManifestVolume
		mode    string
		hashes  string
	}{
		{"one layer", []volume.ManifestVolume{layer(hashA)}, "layer-verity", hashA},
		{"two layers", []volume.ManifestVolume{layer(hashA), layer(hashB)}, "layer-verity", hashA + "," + hashB},
		{"without verity", []volume.ManifestVolume{layer(""), layer("")}, "layer", ""},
		{"a layer twice", []volume.ManifestVolume{layer(hashA), layer(hashA)}, "layer-verity", hashA + "," + hashA},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := annotate(t, "kata-erofs", nil, container(t, "", tt.volumes...))
			if err != nil {
				t.Fatal(err)
			}
			want := 2*len(tt.volumes) + 1
			if tt.hashes != "" {
				want++
			}
			if len(a.Set) != want || a.Set[kata.AnnotationMode] != tt.mode ||
				a.Set[kata.AnnotationRootHash] != tt.hashes {
				t.Errorf("%d keys: %v", len(a.Set), a.Set)
			}
			for i := range tt.volumes {
				checkVolume(t, a.Set, i, &tt.volumes[i])
			}
		})
	}
}

// checkVolume opens what was written for volume n with the readers' functions.
func checkVolume(t *testing.T, set map[string]string, n int, want *volume.ManifestVolume) {
	t.Helper()
	v, err := kata.DecodeVirtualVolume(set[kata.VolumeKey(n)])
	if err != nil {
		t.Fatal(err)
	}
	o, err := kata.DecodeExtraOption(set[kata.ExtraOptionKey(n)])
	if err != nil {
		t.Fatal(err)
	}
	if v.Source != want.Path || o.Source != want.Path || v.VolumeType != kata.VolumeLayerRawBlock ||
		o.Type != kata.OptionRawLayerBlock || (v.DMVerity != nil) != (want.Verity != nil) {
		t.Errorf("volume %d: %+v, %+v", n, v, o)
	}
	if want.Verity == nil {
		return
	}
	parameters, err := kata.ParseParameters(o.Verity)
	if err != nil {
		t.Fatal(err)
	}
	if v.DMVerity.Hash != want.Verity.RootHash || v.DMVerity.Offset != want.Verity.TreeOffset ||
		*parameters != *v.DMVerity {
		t.Errorf("volume %d: %+v, %+v", n, v.DMVerity, parameters)
	}
}

// foreign has keys that a pod may bring, none of which is ours.
var foreign = map[string]string{
	"io.katacontainers.config.hypervisor.default_vcpus": "2",
	"io.katacontainers.volumes":                         "x",
	"io.kubernetes.cri-o.TTY":                           "false",
	"example.org/io.katacontainers.volume.0":            "x",
}

// brought has keys of ours that a pod must not bring.
var brought = map[string]string{
	"io.katacontainers.volume":                 "x",
	"io.katacontainers.volume.0":               "x",
	"io.katacontainers.volume.1":               "x",
	"io.katacontainers.volume.00":              "x",
	"io.katacontainers.volume.99999999999":     "x",
	"io.katacontainers.volume.":                "x",
	"io.katacontainers.volume=e30=":            "x",
	"io.katacontainers.extraoption":            "x",
	"io.katacontainers.extraoption.0":          "x",
	"io.katacontainers.extraoption.a/b":        "x",
	"io.katacontainers.extraoption=e30=":       "x",
	"io.katacontainers.erofs":                  "x",
	"io.katacontainers.erofs.mode":             "image-verity",
	"io.katacontainers.erofs.root-hash":        strings.Repeat("0", 64),
	"io.katacontainers.erofs.request.volume.0": "x",
	"io.katacontainers.erofs.later":            "x",
}

// Whatever the rootfs: no key of ours that the pod brought is left with the pod's value, no foreign key is touched.
func TestAnnotateRemoves(t *testing.T) {
	annotations := maps.Clone(brought)
	maps.Copy(annotations, foreign)
	elsewhere := filepath.Join(t.TempDir(), "merged")
	pulled := maps.Clone(annotations)
	pulled["io.kubernetes.cri-o.ImageName"] = "example.org/a:1"
	for _, tt := range []struct {
		name, handler, mountPoint string
		set                       []string // of the keys in brought
	}{
		{"foreign handler", "runc", container(t, "", layer(hashA)), nil},
		{"no handler", "", container(t, "", layer(hashA)), nil},
		{"foreign handler, damaged manifest", "runc", "not/absolute", nil},
		{"shared", "kata-shared", elsewhere, []string{"io.katacontainers.erofs.mode"}},
		{"guest pull", "kata-remote", "", []string{"io.katacontainers.erofs.mode",
			"io.katacontainers.extraoption.0", "io.katacontainers.volume.0"}},
		{"one layer", "kata-erofs", container(t, "", layer(hashA)), []string{"io.katacontainers.erofs.mode",
			"io.katacontainers.erofs.root-hash", "io.katacontainers.extraoption.0", "io.katacontainers.volume.0"}},
		{"without verity", "kata-erofs", container(t, "", layer("")), []string{"io.katacontainers.erofs.mode",
			"io.katacontainers.extraoption.0", "io.katacontainers.volume.0"}},
		{"two layers", "kata-erofs", container(t, "", layer(hashA), layer(hashB)), []string{"io.katacontainers.erofs.mode",
			"io.katacontainers.erofs.root-hash", "io.katacontainers.extraoption.0", "io.katacontainers.volume.0",
			"io.katacontainers.volume.1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := annotate(t, tt.handler, pulled, tt.mountPoint)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for key := range brought {
				if !slices.Contains(tt.set, key) {
					want = append(want, key)
				} else if value := a.Set[key]; value == "" || value == brought[key] {
					t.Errorf("%s is %q", key, value)
				}
			}
			slices.Sort(want)
			if !reflect.DeepEqual(a.Remove, want) {
				t.Errorf("removed %q, want %q", a.Remove, want)
			}
			if len(tt.set) == 0 && len(a.Set) != 0 {
				t.Errorf("set %v", a.Set)
			}
		})
	}
}

func TestAnnotateRequest(t *testing.T) {
	verity := container(t, "", layer(hashA), layer(hashB))
	mixed := container(t, "", layer(hashA), layer(""))
	refused := container(t, "parent layer x is a directory")
	elsewhere := filepath.Join(t.TempDir(), "merged")
	for _, tt := range []struct{ name, handler, mountPoint, request, want string }{
		{"met", "kata-erofs", verity, "layer-verity", ""},
		{"none", "kata-erofs", verity, "", ""},
		{"verity missing", "kata-erofs", mixed, "layer-verity", "the pod requests mode layer-verity: layer-verity is not " +
			"possible: volume /store/volumes/x/layer.erofs has no dm-verity tree"},
		{"no image", "kata-erofs", verity, "image-verity", "image-verity is not possible: the store has no volume of the"},
		{"refused", "kata-erofs", refused, "layer", "as volumes: parent layer x is a directory"},
		{"another driver", "kata-erofs", elsewhere, "layer", "is not on the erofs storage driver"},
		{"unknown", "kata-erofs", verity, "Layer", `mode "Layer" is unknown; valid are layer, layer-verity, image`},
		{"not allowed", "kata-erofs", verity, "shared-fs", "which handler kata-erofs does not allow; a pod may request " +
			"image-verity, layer-verity, layer, guest-pull"},
		{"nameless", "kata-erofs", verity, "guest-pull", "has no name by which a guest could pull it"},
		{"foreign handler", "runc", verity, "layer-verity", `requests mode layer-verity (annotation ` +
			`io.katacontainers.erofs.request), but its runtime handler "runc" gives no container that: use a RuntimeClass`},
		{"no handler", "", verity, "guest-pull", "but its default runtime handler gives no container that"},
		{"foreign handler, shared anyway", "runc", verity, "shared-fs", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := annotate(t, tt.handler, map[string]string{kata.AnnotationRequest: tt.request}, tt.mountPoint)
			checkError(t, a, err, tt.want)
			if err == nil && len(a.Remove) != 0 {
				t.Errorf("removed %q", a.Remove)
			}
		})
	}
}

// Without a request, too, a container gets one of the configured modes or does not get created.
func TestAnnotateRefuses(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "merged")
	a, err := annotate(t, "kata-erofs", nil, elsewhere)
	checkError(t, a, err, "handler kata-erofs: image-verity, layer-verity, layer are not possible: the rootfs is not")
	a, err = annotate(t, "kata-qemu-erofs", nil, container(t, "", layer(""))) // not in the file: verified or nothing
	checkError(t, a, err, "handler kata-qemu-erofs: image-verity is not possible: ")
}

func TestAnnotateDamagedManifest(t *testing.T) {
	good := container(t, "", layer(hashA))
	text, err := os.ReadFile(volume.ManifestPath(good))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"not JSON", "{", "", "manifest.json: "},
		{"version", `"version":1`, `"version":2`, "version 2 is not supported"},
		{"another mount point", `/merged"`, `/merged2"`, "the directory was moved or copied"},
		{"hash", hashA, hashA[1:], "is not 64 lower-case hex digits"},
		{"source", "/store/", "/store/../", "is not a clean absolute path"},
		{"source with a line end", "/store/", `/sto\nre/`, "control character"},
		{"geometry", `"tree_offset":45056`, `"tree_offset":1`, "does not fit a file of"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := strings.Replace(string(text), tt.old, tt.new, 1)
			if bad == string(text) {
				t.Fatalf("%s is not in %s", tt.old, text)
			}
			if err := os.WriteFile(volume.ManifestPath(good), []byte(bad), 0o600); err != nil {
				t.Fatal(err)
			}
			a, err := annotate(t, "kata-erofs", nil, good)
			checkError(t, a, err, tt.want)
		})
	}
	a, err := annotate(t, "kata-erofs", nil, "merged")
	checkError(t, a, err, `mount point "merged" is not an absolute path`)
}

// A manifest that somebody else than the store's owner could have written is no manifest.
func TestAnnotateForgedManifest(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: cannot give a file away")
	}
	forge := func(t *testing.T, how func(path string) error) {
		mountPoint := container(t, "", layer(hashA))
		if err := how(volume.ManifestPath(mountPoint)); err != nil {
			t.Fatal(err)
		}
		if a, err := annotate(t, "kata-erofs", nil, mountPoint); err == nil {
			t.Errorf("accepted: %v", a.Set)
		}
	}
	forge(t, func(p string) error { return os.Chown(p, 1000, 0) })
	forge(t, func(p string) error { return os.Chmod(p, 0o666) })
	forge(t, func(p string) error { return os.Chmod(p, 0o620) })
	forge(t, func(p string) error {
		if err := os.Rename(p, p+".real"); err != nil {
			return err
		}
		return os.Symlink(p+".real", p)
	})
}

func checkError(t *testing.T, a *hooks.Adjustment, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Error(err)
	case want != "" && err == nil:
		t.Errorf("accepted, mode %q", a.Mode)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("got %q, want %q in it", err, want)
	}
}

// CRI-O gives all plugins together 2 s for a container; 128 layers are the most that Kata takes.
func BenchmarkAnnotate128Layers(b *testing.B) {
	volumes := make([]volume.ManifestVolume, 128)
	for i := range volumes {
		volumes[i] = layer(hashA)
	}
	mountPoint := container(b, "", volumes...)
	for b.Loop() {
		if _, err := annotate(b, "kata-erofs", brought, mountPoint); err != nil {
			b.Fatal(err)
		}
	}
}
