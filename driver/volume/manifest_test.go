package volume_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// validManifest returns a manifest of one volume for a mount point in a new directory.
func validManifest(t *testing.T) *volume.Manifest {
	t.Helper()
	mountPoint := filepath.Join(t.TempDir(), "merged")
	return &volume.Manifest{Version: 1, ID: "c1", MountPoint: mountPoint, Volumes: []volume.ManifestVolume{{
		Path: "/store/volumes/ab/layer.erofs", LayerID: "l1",
		Description: volume.Description{Layout: volume.LayoutAligned, FormatVersion: 1, Size: 8192 + 4096 + 4096, DiffID: "sha256:00",
			Verity: &volume.Verity{RootHash: strings.Repeat("ab", 32), Algorithm: "sha256", HashType: 1, DataBlockSize: 4096,
				HashBlockSize: 4096, DataBlocks: 2, HashOffset: 8192, TreeOffset: 12288}},
	}}}
}

func writeManifest(t *testing.T, m *volume.Manifest, mode os.FileMode) string {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	path := volume.ManifestPath(m.MountPoint)
	if err := os.WriteFile(path, b, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

func TestReadManifest(t *testing.T) {
	want := validManifest(t)
	writeManifest(t, want, 0o600)
	got, err := volume.ReadManifest(want.MountPoint + "/")
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != want.ID || len(got.Volumes) != 1 || *got.Volumes[0].Verity != *want.Volumes[0].Verity {
		t.Errorf("read %+v, want %+v", got, want)
	}
	if _, err := volume.ReadManifest(filepath.Join(t.TempDir(), "merged")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where there is none: %v", err)
	}
}

// TestReadManifestRefuses has everything that a manifest must not be: what reads it trusts what it says.
func TestReadManifestRefuses(t *testing.T) {
	volume0 := func(m *volume.Manifest) *volume.ManifestVolume { return &m.Volumes[0] }
	for name, c := range map[string]struct {
		change func(m *volume.Manifest)
		want   string
	}{
		"newer version":       {func(m *volume.Manifest) { m.Version = 2 }, "version 2 is not supported"},
		"no id":               {func(m *volume.Manifest) { m.ID = "" }, "no id"},
		"no volumes":          {func(m *volume.Manifest) { m.Volumes = nil }, "no volumes and no refusal"},
		"relative path":       {func(m *volume.Manifest) { volume0(m).Path = "layer.erofs" }, "not a clean absolute path"},
		"unclean path":        {func(m *volume.Manifest) { volume0(m).Path = "/a/../b/layer.erofs" }, "not a clean absolute path"},
		"another file name":   {func(m *volume.Manifest) { volume0(m).Path = "/etc/shadow" }, "named layer.erofs"},
		"upper-case hash":     {func(m *volume.Manifest) { volume0(m).Verity.RootHash = strings.Repeat("AB", 32) }, "root_hash"},
		"short hash":          {func(m *volume.Manifest) { volume0(m).Verity.RootHash = "ab" }, "root_hash"},
		"salt":                {func(m *volume.Manifest) { volume0(m).Verity.Salt = "00" }, "salt"},
		"algorithm":           {func(m *volume.Manifest) { volume0(m).Verity.Algorithm = "sha1" }, "want sha256"},
		"tree beyond the end": {func(m *volume.Manifest) { volume0(m).Verity.TreeOffset = 1 << 40 }, "does not fit a file"},
		"too many blocks":     {func(m *volume.Manifest) { volume0(m).Verity.DataBlocks = 1 << 60 }, "does not fit a file"},
		"odd block size":      {func(m *volume.Manifest) { volume0(m).Verity.DataBlockSize = 1024 }, "want 4096 or 512"},
	} {
		t.Run(name, func(t *testing.T) {
			m := validManifest(t)
			c.change(m)
			writeManifest(t, m, 0o600)
			if _, err := volume.ReadManifest(m.MountPoint); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestReadManifestFile has manifests that somebody else could have put there.
func TestReadManifestFile(t *testing.T) {
	m := validManifest(t)
	refused := func(what, want string) {
		t.Helper()
		if _, err := volume.ReadManifest(m.MountPoint); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", what, err, want)
		}
	}
	path := writeManifest(t, m, 0o622)
	refused("writable by others", "lets others than the owner write it")
	if err := os.Rename(path, path+".real"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path+".real", path); err != nil {
		t.Fatal(err)
	}
	refused("symbolic link", "is a symbolic link, not a regular file")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	refused("directory", "not a regular file")
	moved := validManifest(t)
	writeManifest(t, moved, 0o600)
	other := filepath.Join(filepath.Dir(moved.MountPoint), "elsewhere")
	if _, err := volume.ReadManifest(other); err == nil || !strings.Contains(err.Error(), "was moved or copied") {
		t.Errorf("of another mount point: %v", err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(volume.ManifestPath(moved.MountPoint), 1, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := volume.ReadManifest(moved.MountPoint); err == nil || !strings.Contains(err.Error(), "owned by uid 1") {
			t.Errorf("owned by another user: %v", err)
		}
	}
}
