package hooks_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/hooks"
	"github.com/crio-erofs/crio-erofs/kata/modes"
	"github.com/crio-erofs/crio-erofs/kata/trust"
)

// TestEnforce decides about containers of a trusted image, one with another volume, and one that nobody has measured.
func TestEnforce(t *testing.T) {
	dir := t.TempDir()
	config := hooks.Configuration{Path: filepath.Join(dir, "config.toml")}
	a, b := layer(hashA), layer(hashB)
	a.DiffID, b.DiffID = "sha256:"+hashA, "sha256:"+hashB
	trusted := &measure.Measurement{Version: 1, ConfigDigest: "sha256:" + hashB, Platform: "linux/amd64", Layout: a.Layout,
		FormatVersion: 1, ImageVolume: &measure.Volume{Size: a.Size, Verity: *a.Verity},
		Layers: []measure.Layer{{Digest: "sha256:" + hashA, DiffID: a.DiffID, Volume: measure.Volume{Size: a.Size, Verity: *a.Verity}}}}
	doc, err := json.Marshal(trusted)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(config.Trust().Path(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config.Trust().Path(), "a.json"), doc, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		enforce, image string
		v              volume.ManifestVolume
		want           string
	}{
		{"require", hashB, a, ""},
		{"require", hashB, b, "has root hash " + hashB + ", measured was " + hashA},
		{"require", hashA, a, "has no measurement of it"},
		{"warn", hashB, b, ""}, {"off", hashB, b, ""}, {"warn", hashA, a, ""},
	} {
		t.Run(tt.enforce+" "+tt.want, func(t *testing.T) {
			text := "[handlers.kata-erofs]\nmodes = [\"layer-verity\"]\nenforce = \"" + tt.enforce + "\"\n"
			if err := os.WriteFile(config.Path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			c := hooks.Container{Handler: "kata-erofs", MountPoint: containerOf(t, tt.v, a.DiffID),
				Annotations: map[string]string{hooks.AnnotationImageRef: tt.image}}
			loaded, err := config.For(c.Handler)
			if err != nil {
				t.Fatal(err)
			}
			adjust, err := hooks.Annotate(loaded, c)
			if err != nil {
				t.Fatal(err)
			}
			err = hooks.Enforce(t.Context(), config.Trust(), adjust, c)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
		})
	}
	foreign := hooks.Container{Handler: "runc"}
	adjust, err := hooks.Annotate(&modes.Config{}, foreign)
	if err != nil {
		t.Fatal(err)
	}
	if err := hooks.Enforce(t.Context(), trust.NextTo(config.Path), adjust, foreign); err != nil {
		t.Errorf("another handler: %v", err)
	}
}

func containerOf(t *testing.T, v volume.ManifestVolume, diffID string) string {
	t.Helper()
	mountPoint := filepath.Join(t.TempDir(), "merged")
	doc, err := json.Marshal(volume.Manifest{Version: volume.ManifestVersion, ID: "c", MountPoint: mountPoint,
		Volumes: []volume.ManifestVolume{v}, DiffIDs: []string{diffID}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(volume.ManifestPath(mountPoint), doc, 0o600); err != nil {
		t.Fatal(err)
	}
	return mountPoint
}
