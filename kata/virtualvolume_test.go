package kata_test

import (
	"encoding/base64"
	"reflect"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/katatest"
)

const (
	rootHash = katatest.RootHash
	path     = katatest.Path

	goldenVolume         = katatest.Volume
	goldenVolumeNoVerity = katatest.VolumeNoVerity
)

func testVolume() *volume.ManifestVolume {
	return &volume.ManifestVolume{
		Description: volume.Description{
			Layout: volume.LayoutAligned,
			Size:   4300800,
			Verity: &volume.Verity{
				RootHash: rootHash, Algorithm: "sha256", HashType: 1, DataBlockSize: 4096, HashBlockSize: 4096,
				DataBlocks: 1038, HashOffset: 4251648, TreeOffset: 4255744,
			},
		},
		Path: path,
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestVirtualVolumeGolden(t *testing.T) {
	bare := testVolume()
	bare.Verity = nil
	for want, v := range map[string]*volume.ManifestVolume{goldenVolume: testVolume(), goldenVolumeNoVerity: bare} {
		got, err := kata.NewLayerVolume(v).Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got != b64(want) {
			b, _ := base64.StdEncoding.DecodeString(got)
			t.Errorf("got  %s\nwant %s", b, want)
		}
		back, err := kata.DecodeVirtualVolume(got)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back, kata.NewLayerVolume(v)) {
			t.Errorf("decoded %+v", back)
		}
	}
}

func TestDecodeNydusVolume(t *testing.T) {
	v, err := kata.DecodeVirtualVolume(b64(katatest.NydusVolume))
	if err != nil {
		t.Fatal(err)
	}
	// With these, a reader opens the tree where nydus put it.
	if d := v.DMVerity; !d.NoSuperblock || d.HashVersion != 1 || d.Salt != "-" {
		t.Errorf("got %+v", d)
	}
}

func TestDecodeVirtualVolumeErrors(t *testing.T) {
	for _, tt := range katatest.BadVolumes {
		t.Run(tt.Name, func(t *testing.T) { wantError(t, b64(tt.JSON), tt.Want) })
	}
	wantError(t, "x", "base64: illegal")
	wantError(t, b64(goldenVolume)+"=", "base64: illegal")
	wantError(t, b64(goldenVolume)[:8]+"\n"+b64(goldenVolume)[8:], "base64: line end at byte 8")
	wantError(t, strings.TrimRight(b64(`{"a": 1}`), "="), "base64: illegal") // no padding
	wantError(t, "e31=", "base64: illegal")                                  // bits set behind the end
	wantError(t, strings.Repeat("A", 512<<10+1), "524289 bytes; at most 524288")
}

func wantError(t *testing.T, encoded, want string) {
	t.Helper()
	v, err := kata.DecodeVirtualVolume(encoded)
	if err == nil {
		t.Fatalf("accepted: %+v", v)
	}
	if !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "decode KataVirtualVolume: ") {
		t.Errorf("got %q, want %q in it", err, want)
	}
}

func TestDecodeGoodVolumes(t *testing.T) {
	for _, s := range katatest.GoodVolumes {
		if _, err := kata.DecodeVirtualVolume(b64(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestEncodeRefusesWhatJSONChanges(t *testing.T) {
	v := testVolume()
	v.Path = "/store/\xff/layer.erofs" // json.Marshal would silently write U+FFFD: another path
	if s, err := kata.NewLayerVolume(v).Encode(); err == nil {
		t.Errorf("KataVirtualVolume: %s", s)
	}
	if s, err := kata.NewLayerOption(v).Encode(); err == nil {
		t.Errorf("ExtraOption: %s", s)
	}
}

func FuzzDecodeVirtualVolume(f *testing.F) {
	f.Add(b64(goldenVolume))
	f.Add(b64(katatest.NydusVolume))
	f.Fuzz(func(t *testing.T, s string) {
		v, err := kata.DecodeVirtualVolume(s)
		if err != nil {
			return
		}
		again, err := v.Encode()
		if err != nil {
			t.Fatalf("decoded, but not to be encoded: %+v: %v", v, err)
		}
		back, err := kata.DecodeVirtualVolume(again)
		if err != nil {
			t.Fatalf("encoded, but not to be decoded: %+v: %v", v, err)
		}
		if !reflect.DeepEqual(normal(v), normal(back)) {
			t.Fatalf("changed on the way: %+v, then %+v", v, back)
		}
	})
}

// normal makes an empty list equal to none: both are left out when encoded.
func normal(v *kata.VirtualVolume) *kata.VirtualVolume {
	if len(v.Options) == 0 {
		v.Options = nil
	}
	return v
}
