package kata_test

import (
	"encoding/base64"
	"reflect"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
)

const (
	goldenParameters = `--no-superblock --format=1 -s "" --hash=sha256 --data-block-size=4096 ` +
		`--hash-block-size=4096 --data-blocks 1038 --hash-offset 4255744 ` + rootHash

	goldenOption = `{"type":"raw-layer-block","source":"` + path + `","config":"","snapshotdir":"",` +
		`"fs_version":"erofs","verity":"--no-superblock --format=1 -s \"\" --hash=sha256 --data-block-size=4096 ` +
		`--hash-block-size=4096 --data-blocks 1038 --hash-offset 4255744 ` + rootHash + `"}`

	goldenOptionNoVerity = `{"type":"raw-layer-block","source":"` + path + `","config":"","snapshotdir":"",` +
		`"fs_version":"erofs","verity":""}`

	// What nydus-snapshotter writes (snapshot/mount_option.go, ExtraOption): no type, no verity.
	nydusOption = `{"source":"/var/lib/nydus/snapshots/7/fs/image/image.boot","config":"{\n  \"device\": {}\n}",` +
		`"snapshotdir":"/var/lib/nydus/snapshots/7/fs","fs_version":"v6"}`
)

func TestExtraOptionGolden(t *testing.T) {
	bare := testVolume()
	bare.Verity = nil
	for want, v := range map[string]*volume.ManifestVolume{goldenOption: testVolume(), goldenOptionNoVerity: bare} {
		got, err := kata.NewLayerOption(v).Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got != b64(want) {
			b, _ := base64.StdEncoding.DecodeString(got)
			t.Errorf("got  %s\nwant %s", b, want)
		}
		back, err := kata.DecodeExtraOption(got)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back, kata.NewLayerOption(v)) {
			t.Errorf("decoded %+v", back)
		}
	}
}

func TestDecodeNydusOption(t *testing.T) {
	o, err := kata.DecodeExtraOption(b64(nydusOption))
	if err != nil {
		t.Fatal(err)
	}
	if o.Type != kata.OptionNydusImageFSOld || o.Version != "v6" || !strings.Contains(o.Config, "\n") {
		t.Errorf("got %+v", o)
	}
}

func TestDecodeExtraOptionErrors(t *testing.T) {
	swap := func(old, new string) string {
		if !strings.Contains(goldenOption, old) {
			t.Fatalf("not in the golden option: %s", old)
		}
		return strings.Replace(goldenOption, old, new, 1)
	}
	for _, tt := range []struct{ name, json, want string }{
		{"empty", ``, "json: unexpected end"},
		{"null", `null`, "the whole is null"},
		{"type", swap(`raw-layer-block`, `layer_raw_block`), `type "layer_raw_block" is unknown; valid are`},
		{"type of field", swap(`"snapshotdir":""`, `"snapshotdir":{}`), "snapshotdir is a JSON object"},
		{"unknown field", swap(`"type"`, `"typ"`), "typ is not a known field"},
		{"case", swap(`"source"`, `"SOURCE"`), "SOURCE is not a known field"},
		{"twice", swap(`"config"`, `"source":"/etc/shadow","config"`), "source appears twice"},
		{"null field", swap(`"config":""`, `"config":null`), "config is null"},
		{"relative source", swap(path, `../layer.erofs`), `source "../layer.erofs" is not a clean absolute path`},
		{"no source", swap(path, ``), `source "" is not a clean absolute path`},
		{"config", swap(`"config":""`, `"config":"{}"`), "config is not empty"},
		{"snapshotdir", swap(`"snapshotdir":""`, `"snapshotdir":"/a"`), "snapshotdir is not empty"},
		{"fs_version", swap(`"fs_version":"erofs"`, `"fs_version":"v6"`), `fs_version "v6"`},
		{"verity", swap(`--format=1`, `--format=7`), "verity: hash_type 7"},
		{"surrogate", `{"type":"runtime-agent-pull","config":"\udc00"}`, "config \"\uFFFD\" is not UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, err := kata.DecodeExtraOption(b64(tt.json))
			if err == nil {
				t.Fatalf("accepted: %+v", o)
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "decode ExtraOption: ") {
				t.Errorf("got %q, want %q in it", err, tt.want)
			}
		})
	}
}

func FuzzDecodeExtraOption(f *testing.F) {
	f.Add(b64(goldenOption))
	f.Add(b64(nydusOption))
	f.Fuzz(func(t *testing.T, s string) {
		o, err := kata.DecodeExtraOption(s)
		if err != nil {
			return
		}
		again, err := o.Encode()
		if err != nil {
			t.Fatalf("decoded, but not to be encoded: %+v: %v", o, err)
		}
		back, err := kata.DecodeExtraOption(again)
		if err != nil || !reflect.DeepEqual(o, back) {
			t.Fatalf("changed on the way: %+v, then %+v: %v", o, back, err)
		}
	})
}
