package modes_test

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

const sample = "../../contrib/config/config.toml"

// TestSample makes sure that the sample is valid, also with the keys that are commented out.
func TestSample(t *testing.T) {
	text, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	c, err := modes.Parse(sample, text)
	if err != nil {
		t.Fatal(err)
	}
	for handler, want := range map[string]kata.Mode{
		"kata-erofs": kata.ModeImageVerity, "kata-erofs-layer": kata.ModeLayerVerity,
		"kata-erofs-guest-pull": kata.ModeGuestPull,
	} {
		h, ours := c.Handler(handler)
		if m, err := h.Choose("", offer(2)); err != nil || m != want || !ours {
			t.Errorf("%s: ours %t, %s, %v; want %s", handler, ours, m, err, want)
		}
	}
	commented := regexp.MustCompile(`(?m)^# ([a-z_]+ = )`)
	if n := len(commented.FindAll(text, -1)); n != 4 {
		t.Errorf("the sample has %d commented settings, want 4", n)
	}
	if _, err := modes.Parse(sample, commented.ReplaceAll(text, []byte("$1"))); err != nil {
		t.Error(err)
	}
}

// TestSampleSaysDefaults compares the sample's handler kata-erofs with what there is without a file.
func TestSampleSaysDefaults(t *testing.T) {
	text, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	c, err := modes.Parse(sample, text)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := c.Handler("kata-erofs")
	want, _ := (&modes.Config{}).Handler("kata-erofs")
	if !slices.Equal(got.Modes, want.Modes) || !slices.Equal(got.Allow, want.Allow) || got.Dialect != want.Dialect ||
		got.Hypervisor != want.Hypervisor || got.Enforce != want.Enforce {
		t.Errorf("sample %+v, defaults %+v", got, want)
	}
}
