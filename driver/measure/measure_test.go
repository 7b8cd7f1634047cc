package measure_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/measure/source"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// TestCopies has three layers of which the lowest and the topmost are equal: the container gets two volumes.
func TestCopies(t *testing.T) {
	a, b := makeTar(t, [2]string{"a", "a"}), makeTar(t, [2]string{"b", "b"})
	name := writeLayout(t, makeImage(t, "amd64", types.OCIUncompressedLayer, a, b, a))
	m := measureOne(t, name, source.Options{Platform: "linux/amd64"}, measure.Options{Jobs: 2})
	stack := m.Stack()
	if len(m.Layers) != 3 || !m.Layers[0].Copy || len(stack) != 2 || stack[0].DiffID != digest.FromBytes(b).String() {
		t.Errorf("%+v", m)
	}
	swapped := writeLayout(t, makeImage(t, "amd64", types.OCIUncompressedLayer, b, a))
	if other := measureOne(t, swapped, source.Options{Platform: "linux/amd64"}, measure.Options{}); *other.ImageVolume != *m.ImageVolume {
		t.Error("a lower copy of a layer changed the image's volume")
	}
	same := writeLayout(t, makeImage(t, "amd64", types.OCIUncompressedLayer, a, a))
	if one := measureOne(t, same, source.Options{Platform: "linux/amd64"}, measure.Options{}); *one.ImageVolume != one.Layers[1].Volume {
		t.Error("the image of one distinct volume is another volume")
	}
}

func TestPlatforms(t *testing.T) {
	arm, amd := makeTar(t, [2]string{"a", "arm"}), makeTar(t, [2]string{"a", "amd"})
	platform := func(arch, variant string) v1.Descriptor {
		return v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch, Variant: variant}}
	}
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: makeImage(t, "arm64", types.OCIUncompressedLayer, arm), Descriptor: platform("arm64", "v8")},
		mutate.IndexAddendum{Add: makeImage(t, "amd64", types.OCIUncompressedLayer, amd), Descriptor: platform("amd64", "")},
		mutate.IndexAddendum{Add: makeImage(t, "", types.OCIUncompressedLayer, amd), // an attestation, as buildkit has them
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}})
	name := writeLayout(t, index)
	for platform, tar := range map[string][]byte{"linux/arm64": arm, "linux/arm64/v8": arm, "linux/amd64": amd} {
		m, err := measureName(t.Context(), name, source.Options{Platform: platform}, measure.Options{})
		if platform == "linux/arm64/v8" { // the list has the variant, the image's configuration does not
			if err == nil || !strings.Contains(err.Error(), "it is for linux/arm64, not for linux/arm64/v8") {
				t.Errorf("%s: %v", platform, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.Layers[0].DiffID != digest.FromBytes(tar).String() {
			t.Errorf("%s: another image", platform)
		}
	}
	src, err := source.Open(t.Context(), name, source.Options{All: true})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if len(src.Images) != 2 || src.Images[0].Platform != "linux/arm64" || src.Images[1].Platform != "linux/amd64" {
		t.Errorf("all: %d images", len(src.Images))
	}
	if _, err := measureName(t.Context(), name, source.Options{Platform: "linux/s390x"}, measure.Options{}); err == nil {
		t.Error("a platform that the list does not have")
	}
	if _, err := source.Open(t.Context(), name, source.Options{Platform: "linux"}); err == nil {
		t.Error("a platform without architecture")
	}
}

func TestBadImages(t *testing.T) {
	plain := makeTar(t, [2]string{"a", "a"})
	amd64 := source.Options{Platform: "linux/amd64"}
	lying := imageOf(t, "amd64", claimedLayer{static.NewLayer(plain, types.OCIUncompressedLayer), digest.FromString("other")})
	encrypted := makeImage(t, "amd64", types.OCIUncompressedLayer+"+encrypted", plain)
	damaged := writeLayout(t, makeImage(t, "amd64", types.OCIUncompressedLayer, plain))
	blob := filepath.Join(strings.TrimPrefix(damaged, "oci:"), "blobs/sha256", digest.FromBytes(plain).Encoded())
	if err := os.WriteFile(blob, makeTar(t, [2]string{"a", "b"}), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, want string }{
		{writeLayout(t, lying), "but the image's configuration says " + digest.FromString("other").String()},
		{writeLayout(t, encrypted), "encrypted layers cannot be read here"},
		{damaged, "it was damaged or exchanged on the way"},
		{writeLayout(t, makeImage(t, "amd64", types.OCIUncompressedLayer, []byte("no tar"))), "layer tar"},
		{writeLayout(t, imageOf(t, "amd64")), "no layers"},
		{"oci:" + t.TempDir(), "no such file"},
		{"image", "does not start with a transport"},
	} {
		if m, err := measureName(t.Context(), tt.name, amd64, measure.Options{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, %v; want %q", m, err, tt.want)
		}
	}
	_, err := measureName(t.Context(), writeLayout(t, encrypted), amd64, measure.Options{})
	if !errors.Is(err, source.ErrEncrypted) {
		t.Errorf("%v does not match ErrEncrypted", err)
	}
}

// TestSchema holds measurements against the published schema, and Parse against what the schema refuses.
func TestSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../../docs/measurement.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	a, b := makeTar(t, [2]string{"a", "a"}), makeTar(t, [2]string{"b", "b"})
	name := writeLayout(t, makeImage(t, "amd64", types.OCIUncompressedLayer, a, b, a))
	valid := func(b []byte) bool {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v) == nil
	}
	var doc []byte
	for _, layout := range volume.Layouts {
		m := measureOne(t, name, source.Options{Platform: "linux/amd64"}, measure.Options{Layout: layout})
		doc, err = json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if !valid(doc) {
			t.Errorf("the schema refuses %s", doc)
		}
		if _, err := measure.Parse(doc); err != nil {
			t.Error(err)
		}
	}
	m := measureOne(t, name, source.Options{Platform: "linux/amd64"}, measure.Options{})
	doc, _ = json.Marshal(m)
	for _, change := range []struct{ old, new string }{
		{`"version":1`, `"version":2`}, {`"config_digest":"sha256:`, `"config_digest":"sha512:`},
		{`"layout":"aligned"`, `"layout":"other"`}, {`"salt":""`, `"salt":"00"`}, {`"hash_type":1`, `"hash_type":0`},
		{`"root_hash":"`, `"root_hash":"g`}, {`"data_block_size":4096`, `"data_block_size":1024`},
		{`"platform":"linux/amd64"`, `"platform":"linux"`}, {`"diff_id":"`, `"diff_id":"x`},
	} {
		bad := strings.ReplaceAll(string(doc), change.old, change.new)
		if bad == string(doc) {
			t.Fatalf("%s is not in %s", change.old, doc)
		}
		if valid([]byte(bad)) {
			t.Errorf("the schema accepts %s", change.new)
		}
		if _, err := measure.Parse([]byte(bad)); err == nil {
			t.Errorf("Parse accepts %s", change.new)
		}
	}
	// What a schema cannot say.
	for _, change := range []struct{ old, new string }{
		{`"copy":true,`, ``}, {`"layout":"aligned"`, `"layout":"tarfs"`}, {`"data_blocks":`, `"data_blocks":9`},
	} {
		bad := strings.ReplaceAll(string(doc), change.old, change.new)
		if _, err := measure.Parse([]byte(bad)); err == nil || bad == string(doc) {
			t.Errorf("Parse accepts %q in the place of %q", change.new, change.old)
		}
	}
	if _, err := measure.Parse(append(doc, '1')); err == nil {
		t.Error("Parse accepts two values")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"config_digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000",` +
		`"platform":"a/b","layout":"aligned","format_version":1,"layers":[{}],"no_image_volume":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := measure.Parse(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := measure.Parse(again); err != nil {
			t.Errorf("%s: %v", again, err)
		}
	})
}
