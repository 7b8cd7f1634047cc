package shim

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
	measured "github.com/crio-erofs/crio-erofs/kata/trust"
)

// TestEnforce decides about a sandbox, whose image only its layers tell, with the measurement that is trusted, another,
// and none.
func TestEnforce(t *testing.T) {
	f := newFixture(t, t.TempDir(), "pod", containerTypeSandbox, "pod", 2)
	f.handler.Enforce = modes.EnforceRequire
	m := &measure.Measurement{Version: 1, ConfigDigest: "sha256:" + strings.Repeat("c", 64), Platform: "linux/amd64",
		Layout: f.manifest.Volumes[0].Layout, FormatVersion: f.manifest.Volumes[0].FormatVersion, NoImageVolume: "none"}
	f.manifest.DiffIDs = nil
	for i, v := range f.manifest.Volumes {
		diffID := "sha256:" + strings.Repeat(string(rune('a'+i)), 64)
		f.manifest.DiffIDs = append(f.manifest.DiffIDs, diffID)
		m.Layers = append(m.Layers, measure.Layer{Digest: diffID, DiffID: diffID, Volume: measure.Volume{Size: v.Size, Verity: *v.Verity}})
	}
	f.writeManifest()
	dir := filepath.Join(t.TempDir(), measured.DirName)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		d := f.decider()
		d.trusted = measured.NewDir(dir, "")
		_, err := d.rootfs(createRequest{id: f.id, bundle: f.bundle})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	check("has no measurement of it")
	trust := func() {
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "m.json"), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	trust()
	check("")
	m.Layers[1].Verity.RootHash = strings.Repeat("0", 64)
	trust()
	check("measured was " + strings.Repeat("0", 64))
	f.handler.Enforce = modes.EnforceWarn
	check("")
	f.handler.Modes, f.handler.Enforce = []kata.Mode{kata.ModeLayer}, modes.EnforceRequire
	check("mode layer lets the host change")
}
