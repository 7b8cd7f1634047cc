package volume_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// version1Image is the root hash of the image volume that releases of format version 1 made of testdata/version1.
const version1Image = "39ffb62bfc26cc373c8351ec3ed5ce8cc26136b01d8ee08cf3063868c9892b7c"

// version1 returns volumes that a release of format version 1 made, "crio-erofs build", of a layer with the equal files
// a and b, and d/c; and of one that deletes a and has e, equal to d/c.
func version1(t *testing.T, dir string) (layers []volume.Layer) {
	t.Helper()
	for _, name := range []string{"lower", "upper"} {
		packed, err := gzip.NewReader(strings.NewReader(read(t, "testdata/version1", name+".erofs.gz")))
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(dir, name+".erofs"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		size, err := io.Copy(f, packed)
		if err != nil {
			t.Fatal(err)
		}
		info, err := volume.Verify(t.Context(), f, size, "", nil)
		if err != nil || info.FormatVersion != 1 {
			t.Fatalf("%s: %v, format version %d", name, err, info.FormatVersion)
		}
		layers = append(layers, volume.Layer{File: f, RootHash: info.Verity.RootHash})
	}
	return layers
}

// TestVersion1 merges volumes of format version 1: alone, to the image volume as which they were measured once, and
// with one of version 2.
func TestVersion1(t *testing.T) {
	dir := t.TempDir()
	layers := version1(t, dir)
	for want, layers := range map[int][]volume.Layer{
		1: layers,
		2: append(layers, layersOf(t, dir, makeTar(t, file("new", "n"), file("equal", "n"), file("d/c", "replaced")))...),
	} {
		image, _ := merge(t, dir, layers)
		b := []byte(read(t, image))
		info, err := volume.Inspect(bytes.NewReader(b), int64(len(b)))
		if err != nil || info.FormatVersion != want {
			t.Fatalf("%v, format version %d, want %d", err, info.FormatVersion, want)
		}
		if want == 1 && info.Verity.RootHash != version1Image {
			t.Errorf("root hash %s, was %s with version 1", info.Verity.RootHash, version1Image)
		}
		sameAsOverlay(t, image, layers)
	}
}
