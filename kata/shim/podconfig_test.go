package shim

import (
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/kata"
)

// TestPodChangesKatasConfiguration: no pod gets another mode than was chosen by telling Kata so.
func TestPodChangesKatasConfiguration(t *testing.T) {
	const experimental, golang, path = annotationExperimental, annotationForceGuestPull, annotationConfigPath
	for _, c := range []struct {
		key, value string
		mode       kata.Mode
		version    string
		want       string // in the refusal; "": none
	}{
		{experimental, "force_guest_pull", kata.ModeLayerVerity, "4.1.0", "makes Kata replace every rootfs"},
		{experimental, "a,force_guest_pull,b", kata.ModeLayerVerity, "4.1.0", "makes Kata replace every rootfs"},
		{experimental, "force_guest_pull", kata.ModeSharedFS, "4.1.0", "makes Kata replace every rootfs"},
		{experimental, "force_guest_pull", kata.ModeGuestPull, "4.1.0", "makes Kata replace every rootfs"}, // of those that follow
		{experimental, "newstore", kata.ModeLayerVerity, "4.1.0", ""},
		{golang, "true", kata.ModeLayerVerity, "4.1.0", golang},
		{golang, "T", kata.ModeLayer, "4.1.0", golang},
		{golang, "1", kata.ModeSharedFS, "4.1.0", golang},
		{golang, "false", kata.ModeLayerVerity, "4.1.0", ""},
		{path, "/etc/other.toml", kata.ModeLayer, "3.32.0", "chooses Kata's configuration file itself"},
		{path, "/etc/other.toml", kata.ModeLayerVerity, "4.1.0", ""},
		{path, "/etc/other.toml", kata.ModeGuestPull, "3.32.0", ""},
	} {
		for _, kind := range []string{"container", containerTypeSandbox} {
			f := newFixture(t, t.TempDir(), "ctr", kind, "pod", 2)
			f.annotations()[c.key] = c.value
			f.allow(c.mode)
			f.settle(kind)
			d := f.decider()
			d.runtime = func() (identity, error) {
				return identity{program: "/shim", kind: kindRust, version: c.version}, nil
			}
			got, err := d.rootfs(createRequest{id: f.id, bundle: f.bundle})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s=%s, %s, mode %s: %+v, %v; want %q", c.key, c.value, kind, c.mode, got, err, c.want)
			}
		}
	}
}
