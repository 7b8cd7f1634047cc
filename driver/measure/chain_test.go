package measure_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/crio-erofs/crio-erofs/driver/measure"
)

func encode(t testing.TB, v any) (doc []byte, d string) {
	t.Helper()
	doc, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return doc, digest.FromBytes(doc).String()
}

// imageConfig makes a configuration with layers of these contents.
func imageConfig(layers ...string) imagespec.Image {
	c := imagespec.Image{RootFS: imagespec.RootFS{Type: "layers"}}
	for _, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromString(l))
	}
	return c
}

func TestDiffIDs(t *testing.T) {
	config, id := encode(t, imageConfig("a", "b", "a"))
	other, _ := encode(t, imageConfig("evil"))
	manifestOf := func(config string, layers int) (doc []byte, d string) {
		return encode(t, imagespec.Manifest{Config: imagespec.Descriptor{Digest: digest.Digest(config)},
			Layers: make([]imagespec.Descriptor, layers)})
	}
	manifest, manifestDigest := manifestOf(id, 3)
	short, shortDigest := manifestOf(id, 2)
	sha512, sha512Digest := manifestOf(digest.SHA512.FromBytes(config).String(), 3)
	index, indexDigest := encode(t, imagespec.Index{Manifests: []imagespec.Descriptor{{Digest: digest.Digest(manifestDigest)}}})
	bad := imageConfig("a")
	bad.RootFS.DiffIDs = append(bad.RootFS.DiffIDs, "sha256:../../x")
	badConfig, badID := encode(t, bad)
	want := fmt.Sprint([]string{digest.FromString("a").String(), digest.FromString("b").String(), digest.FromString("a").String()})
	for name, c := range map[string]struct {
		digest string
		docs   [][]byte
		want   string
	}{
		"a configuration":              {id, [][]byte{other, config}, want},
		"a manifest":                   {manifestDigest, [][]byte{config, other, manifest}, want},
		"another configuration":        {id, [][]byte{other}, "none of the 1 documents given has the digest " + id},
		"another configuration, again": {manifestDigest, [][]byte{manifest, other}, "none of the 2 documents given has the digest " + id},
		"a space more":                 {id, [][]byte{append([]byte(" "), config...)}, "none of the 1 documents"},
		"a manifest alone":             {manifestDigest, [][]byte{manifest}, "none of the 1 documents"},
		"a layer less":                 {shortDigest, [][]byte{short, config}, "the manifest has 2 layers, its configuration " + id + " has 3"},
		"another algorithm":            {sha512Digest, [][]byte{sha512, config}, "is not sha256: and 64 lower-case hex digits"},
		"a list":                       {indexDigest, [][]byte{index, manifest, config}, "of a list, take the manifest of one platform"},
		"no digest":                    {badID, [][]byte{badConfig}, `diffID "sha256:../../x" is not sha256:`},
		"no image":                     {"x", nil, `image digest "x" is not sha256:`},
	} {
		got, err := measure.DiffIDs(c.digest, c.docs...)
		if err == nil && fmt.Sprint(got) != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want %s", name, got, err, c.want)
		}
	}
	if got := measure.TarfsStack([]string{"a", "b", "a", "c"}); !slices.Equal(got, []string{"b", "a", "c"}) {
		t.Errorf("the stack is %q", got)
	}
}

// FuzzDiffIDs: whatever a host says, only what has the digest counts.
func FuzzDiffIDs(f *testing.F) {
	config, id := encode(f, imageConfig("a", "b"))
	manifest, manifestDigest := encode(f, imagespec.Manifest{Config: imagespec.Descriptor{Digest: digest.Digest(id)},
		Layers: make([]imagespec.Descriptor, 2)})
	want, err := measure.DiffIDs(id, config)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(config, manifest)
	f.Add(manifest, config)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		for _, d := range []string{id, manifestDigest} {
			if got, err := measure.DiffIDs(d, a, b); err == nil && !slices.Equal(got, want) {
				t.Errorf("%q", got)
			}
		}
		_, _ = measure.DiffIDs(digest.FromBytes(a).String(), a, b) // must not panic
	})
}
