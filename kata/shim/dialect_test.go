package shim

import (
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// TestDialectOf has which real shim gets what in which mode; want is the dialect or is in the refusal.
func TestDialectOf(t *testing.T) {
	rs := func(version string) identity { return identity{program: "/shim", kind: kindRust, version: version} }
	gort := func(version string) identity { return identity{program: "/shim", kind: kindGo, version: version} }
	unknown := identity{program: "/shim", said: "it succeeds, output \"x\""}
	const auto = modes.DialectAuto
	const layerV, imageV, layer, image = kata.ModeLayerVerity, kata.ModeImageVerity, kata.ModeLayer, kata.ModeImage
	const pull, shared = kata.ModeGuestPull, kata.ModeSharedFS
	for _, c := range []struct {
		configured modes.Dialect
		id         identity
		mode       kata.Mode
		want       string
	}{
		{auto, rs("4.0.0"), layerV, "runtime-rs"},
		{auto, rs("10.0.0"), imageV, "runtime-rs"},
		{auto, rs("3.32.0"), layerV, "/shim is Kata 3.32.0, and 4.0.0 is the first that verifies volumes"},
		{auto, rs("3.32.0"), layer, "runtime-rs"},
		{auto, rs("3.31.9"), image, "3.32.0 is the first that takes volumes"},
		{auto, rs("2.5.0"), pull, "runtime-rs"},
		{auto, gort("4.1.0"), layerV, "Go runtime, whose guests cannot verify"},
		{auto, gort("4.1.0"), imageV, "Go runtime, whose guests cannot verify"},
		{auto, gort("3.19.0"), layer, "go"},
		{auto, gort("4.1.0"), image, "go"},
		{auto, gort("3.18.0"), image, "3.19.0 is the first that finds the file"},
		{auto, gort("3.2.0"), shared, "go"},
		{auto, unknown, layerV, "does not tell that it is Kata's (it succeeds, output \"x\")"},
		{auto, unknown, image, "does not tell that it is Kata's"},
		{auto, unknown, pull, "raw-volume"},
		{auto, unknown, shared, "raw-volume"},
		{modes.DialectRuntimeRS, unknown, layerV, "runtime-rs"},
		{modes.DialectRuntimeRS, unknown, pull, "runtime-rs"},
		{modes.DialectRuntimeRS, rs("3.32.0"), layerV, "is Kata 3.32.0"},
		{modes.DialectRuntimeRS, gort("4.1.0"), layerV, "Go runtime"},
		{modes.DialectRuntimeRS, gort("4.1.0"), layer, "is Kata's shim of dialect go, but the handler's configuration says"},
		{modes.DialectGo, rs("4.1.0"), layer, "is Kata's shim of dialect runtime-rs, but"},
		{modes.DialectGo, unknown, layer, "go"},
		{modes.DialectGo, unknown, shared, "go"},
		{modes.DialectRawVolume, gort("4.1.0"), layerV, "raw-volume"},
		{modes.DialectRawVolume, unknown, imageV, "raw-volume"},
		{modes.DialectBlockDevice, gort("4.1.0"), shared, "block-device"},
		{modes.DialectBlockDevice, rs("4.1.0"), image, "block-device"},
		{modes.DialectGuestPull, rs("4.1.0"), pull, "runtime-rs"},
		{modes.DialectGuestPull, unknown, pull, "raw-volume"},
		{modes.DialectGuestPull, rs("4.1.0"), layer, "dialect guest-pull has no mode layer"},
		{auto, rs("4"), layerV, "is Kata 4, and 4.0.0"},
	} {
		got, err := dialectOf(c.configured, c.id, c.mode)
		if err != nil && (got != "" || !strings.Contains(err.Error(), c.want)) || err == nil && string(got) != c.want {
			t.Errorf("%s, %s %s, %s: %q, %v; want %q", c.configured, c.id.kind, c.id.version, c.mode, got, err, c.want)
		}
	}
}
