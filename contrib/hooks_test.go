package contrib_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/common/pkg/hooks"
	hooksexec "github.com/containers/common/pkg/hooks/exec"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
)

// These tests read and run hooks by the code that CRI-O and podman have for it.

// installHook copies a hooks file into a directory of its own, with the built hook as its program.
func installHook(t *testing.T, path string) string {
	t.Helper()
	program := built(t, "crio-erofs-hook")
	sample, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	private := bytes.ReplaceAll(sample, []byte("/usr/local/bin/crio-erofs-hook"), []byte(program))
	if bytes.Equal(private, sample) {
		t.Fatalf("%s does not name /usr/local/bin/crio-erofs-hook", path)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), private, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestGuardMatches has CRI-O's matcher decide which containers get the guard.
func TestGuardMatches(t *testing.T) {
	dir := installHook(t, "hooks.d/60-crio-erofs-guard.json")
	manager, err := hooks.New(t.Context(), []string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for annotation, want := range map[string]int{
		kata.AnnotationRequest: 1, kata.AnnotationRequest + "x": 0, "xio.katacontainers.erofs.request": 0,
		"io.katacontainers.erofs_request": 0, "": 0,
	} {
		spec := &specs.Spec{Process: &specs.Process{Args: []string{"true"}}}
		if _, err := manager.Hooks(spec, map[string]string{annotation: "layer"}, false); err != nil {
			t.Fatal(err)
		}
		got := 0
		if spec.Hooks != nil {
			got = len(spec.Hooks.CreateRuntime)
		}
		if got != want {
			t.Errorf("annotation %q: %d guards, want %d", annotation, got, want)
		}
	}
}

// TestPrecreate runs the hook as podman does, and makes sure of what keeps it away from CRI-O.
func TestPrecreate(t *testing.T) {
	dir := installHook(t, "hooks.d-podman/60-crio-erofs-precreate.json")
	if _, err := hooks.New(t.Context(), []string{dir}, nil); err == nil {
		t.Error("CRI-O takes the file: the documentation says that it does not start with it")
	}
	manager, err := hooks.New(t.Context(), []string{dir}, []string{"precreate"})
	if err != nil {
		t.Fatal(err)
	}
	spec := &specs.Spec{
		Version: specs.Version, Process: &specs.Process{Args: []string{"true"}, Cwd: "/"},
		Root:        &specs.Root{Path: writeManifest(t)},
		Annotations: map[string]string{"io.katacontainers.volume.3": "x", "a": "b"},
	}
	extensions, err := manager.Hooks(spec, spec.Annotations, false)
	if err != nil || len(extensions["precreate"]) != 1 {
		t.Fatalf("got %v, %v", extensions, err)
	}
	options := hooksexec.RuntimeConfigFilterOptions{
		Hooks: extensions["precreate"], Config: spec, PostKillTimeout: hooksexec.DefaultPostKillTimeout,
	}
	if hookErr, err := hooksexec.RuntimeConfigFilterWithOptions(t.Context(), options); hookErr != nil || err != nil {
		t.Fatal(hookErr, err)
	}
	got := spec.Annotations
	if len(got) != 5 || got["a"] != "b" || got[kata.AnnotationMode] != "layer-verity" || spec.Process.Cwd != "/" {
		t.Errorf("got %+v", spec)
	}
	if _, err := kata.DecodeVirtualVolume(got[kata.VolumeKey(0)]); err != nil {
		t.Error(err)
	}
	spec.Root.Path = t.TempDir()
	hookErr, err := hooksexec.RuntimeConfigFilterWithOptions(t.Context(), options)
	if hookErr == nil || err == nil {
		t.Errorf("a container without volumes was let through: %v, %v", hookErr, err)
	}
}

// writeManifest makes a mount point with the manifest of one volume, and returns it.
func writeManifest(t *testing.T) string {
	t.Helper()
	mountPoint := filepath.Join(t.TempDir(), "merged")
	b, err := json.Marshal(volume.Manifest{
		Version: volume.ManifestVersion, ID: "c", MountPoint: mountPoint,
		Volumes: []volume.ManifestVolume{{
			Description: volume.Description{Layout: volume.LayoutAligned, FormatVersion: 1, Size: 49152,
				Verity: &volume.Verity{RootHash: strings.Repeat("a", 64), Algorithm: "sha256", HashType: 1,
					DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: 10, HashOffset: 40960, TreeOffset: 45056}},
			Path: "/store/volumes/a/layer.erofs", LayerID: "l",
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(volume.ManifestPath(mountPoint), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return mountPoint
}
