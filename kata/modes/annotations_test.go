package modes_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

func TestAnnotations(t *testing.T) {
	const v, x, mode, hash = "io.katacontainers.volume.", "io.katacontainers.extraoption.",
		"io.katacontainers.erofs.mode", "io.katacontainers.erofs.root-hash"
	for m, want := range map[kata.Mode][]string{
		kata.ModeLayer:       {mode, x + "0", v + "0", x + "1", v + "1"},
		kata.ModeLayerVerity: {mode, x + "0", v + "0", x + "1", v + "1", hash},
		kata.ModeImage:       {mode, x + "0", v + "0"},
		kata.ModeImageVerity: {mode, x + "0", v + "0", hash},
		kata.ModeGuestPull:   {mode, x + "0", v + "0"},
		kata.ModeSharedFS:    {mode},
	} {
		set, err := modes.Annotations(m, offer(2))
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(maps.Keys(set)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: got %q, want %q", m, got, want)
		}
		if set[mode] != string(m) {
			t.Errorf("%s: mode %s", m, set[mode])
		}
		for key, value := range set {
			if strings.HasPrefix(key, v) {
				checkVolume(t, m, value)
			}
			if strings.HasPrefix(key, x) {
				checkOption(t, m, value)
			}
			if key == hash && len(strings.Split(value, ",")) != strings.Count(strings.Join(want, " "), v) {
				t.Errorf("%s: root hashes %s", m, value)
			}
		}
	}
}

func checkVolume(t *testing.T, m kata.Mode, value string) {
	t.Helper()
	got, err := kata.DecodeVirtualVolume(value)
	if err != nil {
		t.Fatal(err)
	}
	types := map[kata.Mode]kata.VolumeType{
		kata.ModeLayer: kata.VolumeLayerRawBlock, kata.ModeLayerVerity: kata.VolumeLayerRawBlock,
		kata.ModeImage: kata.VolumeImageRawBlock, kata.ModeImageVerity: kata.VolumeImageRawBlock,
		kata.ModeGuestPull: kata.VolumeImageGuestPull,
	}
	if got.VolumeType != types[m] || (got.DMVerity != nil) != m.Verity() {
		t.Errorf("%s: got %+v", m, got)
	}
	if m == kata.ModeGuestPull && (got.Source != "example.org/a:1" || !reflect.DeepEqual(got.ImagePull.Metadata, labels)) {
		t.Errorf("got %+v", got)
	}
}

func checkOption(t *testing.T, m kata.Mode, value string) {
	t.Helper()
	got, err := kata.DecodeExtraOption(value)
	if err != nil {
		t.Fatal(err)
	}
	types := map[kata.Mode]kata.OptionType{
		kata.ModeLayer: kata.OptionRawLayerBlock, kata.ModeLayerVerity: kata.OptionRawLayerBlock,
		kata.ModeImage: kata.OptionRawImageBlock, kata.ModeImageVerity: kata.OptionRawImageBlock,
		kata.ModeGuestPull: kata.OptionRuntimeAgentPull,
	}
	if got.Type != types[m] || (got.Verity != "") != m.Verity() {
		t.Errorf("%s: got %+v", m, got)
	}
	if m == kata.ModeGuestPull {
		var config map[string]string
		if err := json.Unmarshal([]byte(got.Config), &config); err != nil || !reflect.DeepEqual(config, labels) ||
			got.Source != "" {
			t.Errorf("got %+v, %v", got, err)
		}
	}
}

// labels is what a guest that pulls the image of offer gets with it.
var labels = map[string]string{
	"containerd.io/snapshot/cri.image-ref": "example.org/a:1", "io.kubernetes.cri-o.ImageRef": rootHash,
}

// Who skips Choose gets an error, not annotations that promise too much.
func TestAnnotationsImpossible(t *testing.T) {
	for m, o := range map[kata.Mode]modes.Offer{
		kata.ModeLayer: offer(2, foreign), kata.ModeImageVerity: offer(2, noImage), kata.ModeLayerVerity: offer(2, noVerity),
		kata.ModeGuestPull: offer(2, noName),
	} {
		if set, err := modes.Annotations(m, o); err == nil {
			t.Errorf("%s: got %v", m, set)
		}
	}
}
