package measure_test

import (
	"archive/tar"
	"bytes"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
)

// makeTar makes a layer with files by name and content.
func makeTar(t testing.TB, files ...[2]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1])), ModTime: time.Unix(1700000000, 0)}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// claimedLayer is a layer whose diffID is what the test says.
type claimedLayer struct {
	v1.Layer
	diffID digest.Digest
}

func (l claimedLayer) DiffID() (v1.Hash, error) { return v1.NewHash(l.diffID.String()) }

// makeImage makes an image for a processor of uncompressed layers of this type.
func makeImage(t testing.TB, architecture string, mediaType types.MediaType, tars ...[]byte) v1.Image {
	t.Helper()
	layers := make([]v1.Layer, len(tars))
	for i, b := range tars {
		layers[i] = claimedLayer{static.NewLayer(b, mediaType), digest.FromBytes(b)}
	}
	return imageOf(t, architecture, layers...)
}

func imageOf(t testing.TB, architecture string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(img, layers...)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", architecture
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

// writeLayout writes an OCI layout with one entry, an image or a list, and returns its name with transport.
func writeLayout(t testing.TB, add mutate.Appendable) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "oci")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	switch a := add.(type) {
	case v1.Image:
		err = path.AppendImage(a)
	case v1.ImageIndex:
		err = path.AppendIndex(a)
	}
	if err != nil {
		t.Fatal(err)
	}
	return "oci:" + dir
}
