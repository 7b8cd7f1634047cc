package shim

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// fixture is a container as CRI-O and the driver leave it: volumes, manifest, bundle.
type fixture struct {
	t        testing.TB
	dir      string
	bundle   string
	id       string
	manifest volume.Manifest
	config   map[string]any
	handler  modes.Handler
}

// newFixture makes a container with n volumes, which are as the driver makes them. A sandbox is that of its own pod.
func newFixture(t testing.TB, dir, id, containerType, sandbox string, n int) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: dir, id: id, bundle: filepath.Join(dir, "run", id, "userdata")}
	if containerType == containerTypeSandbox {
		sandbox = id
	}
	f.handler, _ = (&modes.Config{}).Handler("kata-erofs")
	f.handler.Modes = []kata.Mode{kata.ModeLayerVerity} // image-verity comes first by default
	f.manifest = volume.Manifest{Version: volume.ManifestVersion, ID: id,
		MountPoint: filepath.Join(dir, "layers", id, "merged")}
	for i := range n {
		f.manifest.Volumes = append(f.manifest.Volumes, f.makeVolume(i))
	}
	f.mkdir(f.manifest.MountPoint)
	f.mkdir(f.bundle)
	f.writeManifest()
	f.config = map[string]any{
		"root": map[string]any{"path": f.manifest.MountPoint},
		"annotations": map[string]string{
			annotationContainerType:          containerType,
			annotationSandboxID:              sandbox,
			"io.kubernetes.cri-o.MountPoint": f.manifest.MountPoint,
			"io.kubernetes.cri-o.ImageName":  "example.org/busybox:1",
		},
	}
	if containerType != containerTypeSandbox {
		f.annotate()
	}
	f.writeConfig()
	return f
}

// makeVolume makes the volume of a layer with one file, whose content depends on i. Containers with equal layers share
// it, as in the driver's store.
func (f *fixture) makeVolume(i int) volume.ManifestVolume {
	dir := filepath.Join(f.dir, "volumes", fmt.Sprintf("%024d", i))
	path := filepath.Join(dir, volume.FileName)
	v := volume.ManifestVolume{Path: path, LayerID: fmt.Sprintf("layer%d", i)}
	if b, err := os.ReadFile(filepath.Join(dir, "volume.json")); err == nil {
		f.must(json.Unmarshal(b, &v.Description))
		v.FileID = f.fileID(path)
		return v
	}
	f.mkdir(dir)
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	content := strings.Repeat(fmt.Sprintf("layer %d\n", i), 1000)
	f.must(w.WriteHeader(&tar.Header{Name: "file", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}))
	_, err := w.Write([]byte(content))
	f.must(err)
	f.must(w.Close())
	d, err := volume.Create(path, &layer, volume.BuildOptions{})
	f.must(err)
	f.must(volume.WriteVerityFile(filepath.Join(dir, volume.VerityFileName), d.Verity))
	f.writeJSON(filepath.Join(dir, "volume.json"), d)
	v.Description, v.FileID = *d, f.fileID(path)
	return v
}

func (f *fixture) fileID(path string) volume.FileID {
	fi, err := os.Lstat(path)
	f.must(err)
	id, err := volume.FileIDOf(fi)
	f.must(err)
	return id
}

// annotate writes the annotations of the hook.
func (f *fixture) annotate() {
	f.t.Helper()
	offer := modes.NewOffer(&f.manifest, f.annotations())
	mode, err := f.handler.Choose(f.annotations()[kata.AnnotationRequest], offer)
	f.must(err)
	set, err := modes.Annotations(mode, offer)
	f.must(err)
	for key := range f.annotations() {
		if kata.IsReserved(key) {
			delete(f.annotations(), key)
		}
	}
	maps.Copy(f.annotations(), set)
}

func (f *fixture) annotations() map[string]string { return f.config["annotations"].(map[string]string) }

func (f *fixture) writeManifest() {
	f.writeJSON(volume.ManifestPath(f.manifest.MountPoint), &f.manifest)
}

func (f *fixture) writeConfig() { f.writeJSON(filepath.Join(f.bundle, "config.json"), f.config) }

func (f *fixture) writeJSON(path string, v any) {
	f.t.Helper()
	b, err := json.Marshal(v)
	f.must(err)
	f.must(os.WriteFile(path, b, 0o644))
}

func (f *fixture) mkdir(path string) {
	f.t.Helper()
	f.must(os.MkdirAll(path, 0o755))
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) replaceByFifo(path string) {
	f.must(os.Remove(path))
	f.must(syscall.Mkfifo(path, 0o600))
}
