package kata_test

import (
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/kata"
)

func TestIsReserved(t *testing.T) {
	for key, want := range map[string]bool{
		"io.katacontainers.volume":                true,
		"io.katacontainers.volume.":               true,
		"io.katacontainers.volume.0":              true,
		"io.katacontainers.volume.00":             true,
		"io.katacontainers.volume.-1":             true,
		"io.katacontainers.volume.0.x/y":          true,
		"io.katacontainers.volume=e30=":           true,
		"io.katacontainers.extraoption":           true,
		"io.katacontainers.extraoption.17":        true,
		"io.katacontainers.extraoption=e30=":      true,
		"io.katacontainers.erofs":                 true,
		"io.katacontainers.erofs.":                true,
		"io.katacontainers.erofs.mode":            true,
		"io.katacontainers.erofs.root-hash":       true,
		"io.katacontainers.erofs.future":          true,
		"io.katacontainers.erofs.request.x":       true,
		"io.katacontainers.erofs.request":         false,
		"io.katacontainers.erofsx":                false,
		"io.katacontainers.volumes":               false,
		"io.katacontainers.config.hypervisor.cpu": false,
		"io.kubernetes.cri-o.MountPoint":          false,
		"x.io.katacontainers.volume.0":            false,
		"":                                        false,
	} {
		if got := kata.IsReserved(key); got != want {
			t.Errorf("IsReserved(%q) = %v", key, got)
		}
	}
}

func TestModes(t *testing.T) {
	for _, m := range kata.Modes() {
		if got, err := kata.ParseMode(string(m)); err != nil || got != m {
			t.Errorf("ParseMode(%q) = %q, %v", m, got, err)
		}
	}
	if _, err := kata.ParseMode(strings.Repeat("x", 256<<10)); err == nil || len(err.Error()) > 256 {
		t.Error("a pod's author can fill the node's log with a request")
	}
	if _, err := kata.ParseMode("verity"); err == nil ||
		err.Error() != `mode "verity" is unknown; valid are layer, layer-verity, image, image-verity, `+
			"guest-pull, shared-fs" {
		t.Errorf("got %v", err)
	}
	for _, tt := range []struct {
		have, want kata.Mode
		ok         bool
	}{
		{kata.ModeLayer, kata.ModeLayer, true},
		{kata.ModeLayerVerity, kata.ModeLayer, true},
		{kata.ModeLayer, kata.ModeLayerVerity, false},
		{kata.ModeLayerVerity, kata.ModeImage, false},
		{"", kata.ModeLayer, false},
		{"", "", true},
	} {
		if got := tt.have.Satisfies(tt.want); got != tt.ok {
			t.Errorf("%q.Satisfies(%q) = %v", tt.have, tt.want, got)
		}
	}
}
