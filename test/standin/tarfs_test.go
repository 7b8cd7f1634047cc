package standin_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/pelletier/go-toml/v2"

	crioerofs "github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
	"github.com/crio-erofs/crio-erofs/test/standin/shim"
)

// tarfsLayer is a layer, and its volume of layout tarfs on a host.
type tarfsLayer struct {
	diffID digest.Digest
	volume crioerofs.ManifestVolume
}

func makeTarfsLayer(t *testing.T, write func(w *tar.Writer)) *tarfsLayer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	write(w)
	must(t, w.Close())
	path := filepath.Join(t.TempDir(), crioerofs.FileName)
	d, err := crioerofs.Create(path, &b, crioerofs.BuildOptions{Layout: crioerofs.LayoutTarfs})
	must(t, err)
	return &tarfsLayer{diffID: digest.Digest(d.DiffID), volume: crioerofs.ManifestVolume{Description: *d, Path: path}}
}

func addFile(t *testing.T, w *tar.Writer, name, content string, mode int64) {
	t.Helper()
	must(t, w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: mode}))
	_, err := io.WriteString(w, content)
	must(t, err)
}

// changed is a copy of a layer's volume with one byte changed, and a tree that fits it again.
func (l *tarfsLayer) changed(t *testing.T, offset func(b []byte) int) *tarfsLayer {
	t.Helper()
	c := *l
	b, err := os.ReadFile(l.volume.Path)
	must(t, err)
	b[offset(b)] ^= 0x20
	c.volume.Path = filepath.Join(t.TempDir(), crioerofs.FileName)
	must(t, os.WriteFile(c.volume.Path, b, 0o600))
	v := *l.volume.Verity
	out := command(t, "veritysetup", "format", "--salt=-", "--data-block-size=512", "--hash-block-size=4096",
		"--data-blocks="+strconv.FormatUint(v.DataBlocks, 10), "--hash-offset="+strconv.FormatUint(v.HashOffset, 10),
		c.volume.Path, c.volume.Path)
	v.RootHash = rootHashLine.FindStringSubmatch(out)[1]
	if v.RootHash == l.volume.Verity.RootHash {
		t.Fatal("the root hash is the same")
	}
	c.volume.Verity = &v
	return &c
}

// virtualRootfs makes the Rootfs of volumes, the lowest first, as the shim does for runtimes that verify them.
func virtualRootfs(t *testing.T, mode kata.Mode, layers ...*tarfsLayer) []*types.Mount {
	t.Helper()
	m := &types.Mount{Type: kata.VirtualVolumeMount, Source: "overlay"}
	for i := len(layers) - 1; i >= 0; i-- {
		v := kata.NewLayerVolume(&layers[i].volume)
		if mode == kata.ModeLayer {
			v.DMVerity = nil
		}
		s, err := v.Encode()
		must(t, err)
		m.Options = append(m.Options, kata.VolumeOption+s)
	}
	return []*types.Mount{m}
}

// documents makes the configuration and the manifest of an image with these layers.
func documents(t *testing.T, layers ...*tarfsLayer) (annotations map[string]string, manifest digest.Digest) {
	t.Helper()
	config := imagespec.Image{RootFS: imagespec.RootFS{Type: "layers"}}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.diffID)
	}
	configDoc, err := json.Marshal(config)
	must(t, err)
	manifestDoc, err := json.Marshal(imagespec.Manifest{Layers: make([]imagespec.Descriptor, len(layers)),
		Config: imagespec.Descriptor{Digest: digest.FromBytes(configDoc)}})
	must(t, err)
	return map[string]string{agentapi.ImageDocuments[0]: string(manifestDoc), agentapi.ImageDocuments[1]: string(configDoc)},
		digest.FromBytes(manifestDoc)
}

// TestTarfs has a guest that knows nothing but the digest of an image's manifest. The host brings manifest, configuration,
// volumes and root hashes; the guest goes from one to the next, and nobody has measured anything.
func TestTarfs(t *testing.T) {
	needVM(t)
	program, err := os.ReadFile("/bin/busybox")
	must(t, err)
	lower := makeTarfsLayer(t, func(w *tar.Writer) {
		for _, dir := range []string{"bin/", "etc/", "tmp/", "proc/", "sys/", "dev/", "run/"} {
			must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}))
		}
		addFile(t, w, "bin/busybox", string(program), 0o755)
		for _, tool := range []string{"sh", "cat", "sleep"} {
			must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + tool, Linkname: "busybox"}))
		}
		addFile(t, w, "etc/layer", "lower\n", 0o644)
	})
	upper := makeTarfsLayer(t, func(w *tar.Writer) { addFile(t, w, "etc/layer", "the image's own\n", 0o644) })
	evil := makeTarfsLayer(t, func(w *tar.Writer) { addFile(t, w, "etc/layer", "another\n", 0o644) })
	image, manifest := documents(t, lower, upper, upper) // the same layer twice is one volume
	other, _ := documents(t, lower, evil)

	initData, err := toml.Marshal(map[string]any{"version": "0.1.0", "algorithm": "sha256",
		"data": map[string]string{agentapi.InitDataImages: `["` + manifest.String() + `"]`}})
	must(t, err)
	file := filepath.Join(t.TempDir(), "initdata.toml")
	must(t, os.WriteFile(file, initData, 0o644))
	t.Setenv(shim.EnvInitData, file)
	with := func(annotations map[string]string, change func(*specs.Spec)) func(*specs.Spec) {
		return func(s *specs.Spec) {
			change(s)
			for key, value := range annotations {
				s.Annotations[key] = value
			}
		}
	}
	s := newSandboxWith(t, "tarfs", virtualRootfs(t, kata.ModeLayerVerity, lower, upper), with(image, args("/bin/sleep", "1000000")))
	c := s.container("image", with(image, shell("cat /etc/layer")), false)
	must(t, c.create(virtualRootfs(t, kata.ModeLayerVerity, lower, upper), false))
	c.start()
	if status := c.wait(""); status != 0 || c.streams.stdout.text(t) != "the image's own\n" {
		t.Errorf("exit status %d, output %q", status, c.streams.stdout.text(t))
	}
	c.remove()

	content := func(b []byte) int { return bytes.Index(b, []byte("the image's own")) }
	for name, tt := range map[string]struct {
		documents map[string]string
		mode      kata.Mode
		layers    []*tarfsLayer
		want      string
	}{
		"another image":               {other, kata.ModeLayerVerity, []*tarfsLayer{lower, evil}, "allow no image with these documents"},
		"no documents":                {nil, kata.ModeLayerVerity, []*tarfsLayer{lower, upper}, "allow no image with these documents"},
		"another image's volume":      {image, kata.ModeLayerVerity, []*tarfsLayer{lower, evil}, "the tar in the volume has digest " + evil.diffID.String() + ", the layer's is " + upper.diffID.String()},
		"another order":               {image, kata.ModeLayerVerity, []*tarfsLayer{upper, lower}, "the tar in the volume has digest"},
		"a volume less":               {image, kata.ModeLayerVerity, []*tarfsLayer{lower}, "1 volumes, the image has 2"},
		"a volume more":               {image, kata.ModeLayerVerity, []*tarfsLayer{lower, upper, evil}, "3 volumes, the image has 2"},
		"a changed file":              {image, kata.ModeLayerVerity, []*tarfsLayer{lower, upper.changed(t, content)}, "the tar in the volume has digest"},
		"changed metadata":            {image, kata.ModeLayerVerity, []*tarfsLayer{lower, upper.changed(t, fileName)}, "its metadata are not the tar's"},
		"volumes that can be changed": {image, kata.ModeLayer, []*tarfsLayer{lower, upper}, "has no dm-verity, so that the host could change it"},
	} {
		c := s.container("refused", with(tt.documents, shell("cat /etc/layer")), false)
		if err := c.create(virtualRootfs(t, tt.mode, tt.layers...), false); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q", name, err, tt.want)
		}
	}
	testShutdown(t, s)
}

// fileName finds the name of the file in the volume's metadata: not the one in the tar, which is a path.
func fileName(b []byte) int {
	for i := 0; ; i++ {
		next := bytes.Index(b[i:], []byte("layer"))
		if next < 0 {
			return -1
		}
		if i += next; i < 4 || string(b[i-4:i]) != "etc/" {
			return i
		}
	}
}
