package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
)

const rootHash = "6f398283a00a69ee4f1dd7f41ba5a36dfcafaf883fbd93566d5ffebb1796684d"

// execute runs the command and returns what it wrote to standard output.
func execute(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := newCommand()
	cmd.SetOut(&out)
	cmd.SetArgs(args)
	err := cmd.Execute()
	return out.String(), err
}

func write(t *testing.T, path string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// mountPoint makes a mount point whose manifest has n equal volumes.
func mountPoint(t *testing.T, n int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "merged")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	m := volume.Manifest{Version: volume.ManifestVersion, ID: "c", MountPoint: dir}
	for range n {
		m.Volumes = append(m.Volumes, volume.ManifestVolume{
			Description: volume.Description{Layout: volume.LayoutAligned, Size: 49152,
				Verity: &volume.Verity{RootHash: rootHash, Algorithm: "sha256", HashType: 1, DataBlockSize: 4096,
					HashBlockSize: 4096, DataBlocks: 10, HashOffset: 40960, TreeOffset: 45056}},
			Path: "/store/volumes/6f39/layer.erofs"})
	}
	if n == 0 {
		m.Refusal = "parent layer x is a directory"
	}
	write(t, volume.ManifestPath(dir), m)
	return dir
}

// bundle makes an OCI bundle with this rootfs, as CRI-O would.
func bundle(t *testing.T, root string, annotations map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config.json"),
		map[string]any{"root": map[string]any{"path": root}, "annotations": annotations})
	return dir
}

func TestAnnotationsTable(t *testing.T) {
	out, err := execute(t, "annotations", bundle(t, mountPoint(t, 11),
		map[string]string{"io.katacontainers.volume.77": "x", "io.katacontainers.volume.0": "x", "a": "b"}))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 1+2+2*11+1 {
		t.Fatalf("%d lines:\n%s", len(lines), out)
	}
	for i, want := range map[int]string{
		0:  "ACTION ANNOTATION",
		1:  "set io.katacontainers.erofs.mode layer-verity",
		2:  "set io.katacontainers.erofs.root-hash " + rootHash + ",",
		3:  `set io.katacontainers.extraoption.0 {"type":"raw-layer-block","source":"/store/volumes/6f39/`,
		13: "set io.katacontainers.extraoption.10 {",
		23: "set io.katacontainers.volume.9 {",
		24: `set io.katacontainers.volume.10 {"volume_type":"layer_raw_block",`,
		25: "remove io.katacontainers.volume.77",
	} {
		if got := strings.Join(strings.Fields(lines[i]), " "); !strings.HasPrefix(got, want) {
			t.Errorf("line %d is %q, want %q", i, got, want)
		}
	}
}

func TestAnnotationsJSON(t *testing.T) {
	dir := mountPoint(t, 1)
	out, err := execute(t, "annotations", dir, "--format", "json")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		MountPoint string            `json:"mount_point"`
		Handler    string            `json:"handler"`
		Mode       kata.Mode         `json:"mode"`
		Set        map[string]string `json:"set"`
		Remove     []string          `json:"remove"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if got.MountPoint != dir || got.Handler != "kata-erofs" || got.Mode != kata.ModeLayerVerity || len(got.Set) != 4 ||
		got.Remove == nil {
		t.Errorf("got %s", out)
	}
}

// Under a handler for VMs, what cannot be volumes is refused; under one for runc, only keys that pods bring are removed.
func TestAnnotationsOfOthers(t *testing.T) {
	directory := mountPoint(t, 0)
	foreign := bundle(t, "rootfs", map[string]string{"io.katacontainers.erofs.mode": "x"})
	for _, tt := range []struct{ subject, want string }{
		{directory, "cannot be given to a VM as volumes: parent layer x is a directory"},
		{foreign, "the rootfs is not on the erofs storage driver"},
	} {
		if out, err := execute(t, "annotations", tt.subject); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v\n%s", err, out)
		}
	}
	out, err := execute(t, "annotations", "--handler", "runc", foreign)
	if err != nil || !strings.Contains(out, "remove  io.katacontainers.erofs.mode") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestErrors(t *testing.T) {
	damaged := mountPoint(t, 1)
	if err := os.WriteFile(volume.ManifestPath(damaged), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	noRoot := t.TempDir()
	write(t, filepath.Join(noRoot, "config.json"), map[string]any{})
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"manifest.json: unexpected end of JSON input", []string{"annotations", damaged}},
		{"config.json has no root.path", []string{"annotations", noRoot}},
		{"no such file or directory", []string{"annotations", "/does/not/exist"}},
		{"is not a directory", []string{"annotations", filepath.Join(noRoot, "config.json")}},
		{`--format "yaml" is unknown; valid are json, table`, []string{"annotations", noRoot, "--format", "yaml"}},
		{"accepts 1 arg(s), received 0", []string{"annotations"}},
		{"--log-level: not a valid logrus Level", []string{"version", "--log-level", "loud"}},
		{`--idx: invalid plugin index "7"`, []string{"nri", "--idx", "7", "--socket", "/does/not/exist"}},
		{`unknown command "nry"`, []string{"nry"}},
	} {
		if out, err := execute(t, tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) || out != "" {
			t.Errorf("%q: got %v, want %q; stdout %q", tt.args, err, tt.want, out)
		}
	}
}

func TestVersion(t *testing.T) {
	if out, err := execute(t, "version"); err != nil || out != "crio-erofs-hook unknown\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// TestDamagedConfiguration: this process cannot know whether the file named the handler before it was damaged, so none
// passes for somebody else's.
func TestDamagedConfiguration(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(config, []byte("[handlers.confidential]\nenforce = \"requiere\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := mountPoint(t, 1)
	for _, handler := range []string{"confidential", "kata-erofs"} {
		out, err := execute(t, "annotations", root, "--config", config, "--handler", handler)
		if err == nil || !strings.Contains(err.Error(), "config.toml:2") {
			t.Errorf("handler %s: %q, %v", handler, out, err)
		}
	}
}
