package kata_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/kata"
)

// TestParseText has what people paste. want has the keys and types that come out, in order.
func TestParseText(t *testing.T) {
	v, o := b64(goldenVolume), b64(goldenOption)
	for _, c := range []struct{ name, text, want string }{
		{"volume", v, "=layer_raw_block"},
		{"option, with a line end", o + "\n", "=raw-layer-block"},
		{"JSON of a volume", goldenVolume, "=layer_raw_block"},
		{"JSON of an option", goldenOption, "=raw-layer-block"},
		{"JSON over lines", strings.ReplaceAll(goldenVolume, ",", ",\n  "), "=layer_raw_block"},
		{"mount option", "io.katacontainers.volume=" + v, "io.katacontainers.volume=layer_raw_block"},
		{"mount option of nydus", "extraoption=" + b64(nydusOption), "extraoption="},
		{"mount line", "workdir=/w,upperdir=/u,lowerdir=/l,io.katacontainers.volume=" + v + ",io.katacontainers.volume=" + v,
			"io.katacontainers.volume=layer_raw_block io.katacontainers.volume=layer_raw_block"},
		{"YAML", `    io.katacontainers.volume.0: "` + v + `"` + "\n    io.katacontainers.extraoption.0: " + o,
			"io.katacontainers.volume.0=layer_raw_block io.katacontainers.extraoption.0=raw-layer-block"},
		{"JSON line", `"io.katacontainers.volume.3":"` + v + `",`, "io.katacontainers.volume.3=layer_raw_block"},
		{"annotations", `{"io.katacontainers.volume.10":"` + v + `","io.katacontainers.volume.9":"` + v + `","a":"b"}`,
			"io.katacontainers.volume.9=layer_raw_block io.katacontainers.volume.10=layer_raw_block"},
		{"configuration", `{"ociVersion":"1","annotations":{"io.katacontainers.extraoption.0":"` + o + `"},"root":{}}`,
			"io.katacontainers.extraoption.0=raw-layer-block"},
	} {
		items, err := kata.ParseText(c.text)
		var got []string
		for _, i := range items {
			if i.Volume != nil {
				got = append(got, fmt.Sprintf("%s=%s", i.Key, i.Volume.VolumeType))
			} else {
				got = append(got, fmt.Sprintf("%s=%s", i.Key, i.Option.Type))
			}
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

func TestParseTextErrors(t *testing.T) {
	for text, want := range map[string]string{
		" ":                                     "nothing to decode",
		strings.Repeat("A", 700000):             "700000 bytes; at most 524288 are accepted",
		`{"source":"/a","fs_type":"erofs"}`:     `decode KataVirtualVolume: volume_type ""`,
		"hello":                                 "neither JSON nor base64 nor a line with io.katacontainers.volume.N",
		b64("hello"):                            "base64 of something that is no JSON object",
		b64(`{"a":"b"}`):                        "a is not a known field",
		`{"a":1}`:                               "a is not a known field",
		`{"a":`:                                 "json: unexpected end",
		`{"io.katacontainers.volume.0":1}`:      "io.katacontainers.volume.0: json: cannot unmarshal",
		`{"annotations":[]}`:                    "json: annotations: ",
		`{"io.katacontainers.volume.0":"e30="}`: `io.katacontainers.volume.0: decode KataVirtualVolume: volume_type ""`,
		"io.katacontainers.volume=" + b64(goldenOption):   "io.katacontainers.volume: decode KataVirtualVolume: ",
		"io.katacontainers.extraoption.0=" + b64("{}x"):   "io.katacontainers.extraoption.0: decode ExtraOption: ",
		strings.Repeat("a", 33<<20):                       "at most",
		"a,io.katacontainers.volume=" + b64("{}")[:2]:     "base64",
		b64(strings.Replace(goldenVolume, "ro", "rw", 1)): "",
	} {
		if items, err := kata.ParseText(text); want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %+v, %v; want %q", text, items, err, want)
		}
	}
}

func FuzzParseText(f *testing.F) {
	f.Add(b64(goldenVolume))
	f.Add(goldenOption)
	f.Add("a,io.katacontainers.volume=" + b64(goldenVolume) + ",extraoption=" + b64(nydusOption))
	f.Add(`{"annotations":{"io.katacontainers.volume.0":"` + b64(goldenVolume) + `"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		items, err := kata.ParseText(text)
		if err == nil && len(items) == 0 {
			t.Fatal("nothing found, and no error")
		}
		for _, i := range items {
			if err == nil && (i.Volume == nil) == (i.Option == nil) {
				t.Fatalf("%+v is neither, or both", i)
			}
		}
	})
}
