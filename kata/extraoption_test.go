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

// pullOption is an option of type runtime-agent-pull with one more field; labels is escaped JSON.
func pullOption(field, labels string) string {
	return `{"type":"runtime-agent-pull","config":"` + labels + `",` + field + `}`
}

// nydusOf is an option of a nydus type with one part replaced.
func nydusOf(typ, old, new string) string {
	return strings.Replace(`{"type":"`+typ+`","source":"/b","config":"{}","snapshotdir":"/s","fs_version":"v6",`+
		`"verity":""}`, old, new, 1)
}

// Every type of the RFC, with the fields that its table gives it.
func TestEveryOptionType(t *testing.T) {
	pull, err := kata.NewPullOption(map[string]string{"b": "<&>\n", "a": ""})
	if err != nil {
		t.Fatal(err)
	}
	if pull.Config != `{"a":"","b":"<&>\n"}` {
		t.Errorf("labels are written as %s", pull.Config)
	}
	bare, err := kata.NewPullOption(nil)
	if err != nil || bare.Config != "{}" {
		t.Errorf("no labels are %+v, %v", bare, err)
	}
	for _, o := range []*kata.ExtraOption{
		{Type: kata.OptionNydusImageFS, Source: "/b", Config: "{}", Snapshotdir: "/s", Version: "v5"},
		{Type: kata.OptionNydusImageFSOld, Source: "/b", Config: "{}", Snapshotdir: "/s", Version: "rafsv6"},
		{Type: kata.OptionNydusImageBlock, Source: "/b", Config: "{}", Snapshotdir: "/s", Verity: goldenParameters},
		{Type: kata.OptionNydusLayerBlock, Source: "/b", Config: "{}", Snapshotdir: "/s"},
		{Type: kata.OptionRawImageBlock, Source: "/b"},
		kata.NewImageOption(testVolume()), kata.NewLayerOption(testVolume()), pull, bare,
	} {
		s, err := o.Encode()
		if err != nil {
			t.Errorf("%q: %v", o.Type, err)
			continue
		}
		if back, err := kata.DecodeExtraOption(s); err != nil || *back != *o {
			t.Errorf("%+v came back as %+v, %v", o, back, err)
		}
	}
	labels, err := pull.Labels()
	if err != nil || !reflect.DeepEqual(labels, map[string]string{"b": "<&>\n", "a": ""}) {
		t.Errorf("labels came back as %q, %v", labels, err)
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
		{"no source", swap(path, ``), `source is missing: type "raw-layer-block" needs it`},
		{"config", swap(`"config":""`, `"config":"{}"`), "config does not belong to type"},
		{"snapshotdir", swap(`"snapshotdir":""`, `"snapshotdir":"/a"`), "snapshotdir does not belong to type"},
		{"fs_version", swap(`"fs_version":"erofs"`, `"fs_version":"v6"`), `fs_version "v6"`},
		{"verity", swap(`--format=1`, `--format=7`), "verity: hash_type 7"},
		{"surrogate", `{"type":"runtime-agent-pull","config":"\udc00"}`, "config \"\uFFFD\" is not UTF-8"},
		{"pull of a source", pullOption(`"source":"/a"`, `{}`), "source does not belong"},
		{"pull with a directory", pullOption(`"snapshotdir":"/a"`, `{}`), "snapshotdir does not belong"},
		{"pull with a version", pullOption(`"fs_version":"erofs"`, `{}`), "fs_version does not belong"},
		{"pull with verity", pullOption(`"verity":"x"`, `{}`), "verity does not belong"},
		{"pull without labels", pullOption(`"source":""`, ``), "config is missing"},
		{"labels are a list", pullOption(`"source":""`, `[]`), "config is not a JSON object of labels"},
		{"labels are null", pullOption(`"source":""`, `null`), "config is not a JSON object of labels: the whole is null"},
		{"label is a number", pullOption(`"source":""`, `{\"a\":1}`), "config is not a JSON object of labels"},
		{"label is null", pullOption(`"source":""`, `{\"a\":null}`), "labels: a is null"},
		{"label twice", pullOption(`"source":""`, `{\"a\":\"1\",\"a\":\"2\"}`), "labels: a appears twice"},
		{"nydus without config", nydusOf("", `"config":"{}"`, `"config":""`), "config is missing"},
		{"nydus without directory", nydusOf("", `"snapshotdir":"/s"`, `"snapshotdir":"s"`), `snapshotdir "s" is not`},
		{"nydus without source", nydusOf("nydus-image-fs", `"source":"/b"`, `"source":""`), "source is missing"},
		{"nydus of erofs", nydusOf("nydus-image-fs", `"v6"`, `"erofs"`), `fs_version "erofs" is no version of RAFS`},
		{"nydus fs with verity", nydusOf("nydus-image-fs", `"verity":""`, `"verity":"x"`), "verity does not belong"},
		{"nydus block with a version", nydusOf("nydus-layer-block", ``, ``), "fs_version does not belong"},
		{"nydus block, bad verity", nydusOf("nydus-image-block", `"fs_version":"v6","verity":""`, `"verity":"x"`),
			"verity: --format is missing"},
		{"long source", swap(path, "/"+strings.Repeat("a", 4095)), "source has 4096 bytes"},
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
