package corpus_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// buildLayers makes an aligned volume of each tar in dir, in the order of their names, the lowest first.
func buildLayers(t *testing.T, dir string) []volume.Layer {
	t.Helper()
	tars, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(tars)
	var layers []volume.Layer
	for _, tarFile := range tars {
		file, d, err := convert(t, tarFile, volume.LayoutAligned)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		layers = append(layers, volume.Layer{File: f, RootHash: d.Verity.RootHash})
	}
	return layers
}

// judgeMerged merges layers and holds the result against an overlay of them.
func judgeMerged(t *testing.T, layers []volume.Layer) {
	t.Helper()
	image := filepath.Join(t.TempDir(), volume.FileName)
	out, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	d, _, err := volume.Merge(t.Context(), out, layers)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := volume.Verify(t.Context(), out, d.Size, d.Verity.RootHash, nil); err != nil {
		t.Fatalf("the merged volume does not verify: %v", err)
	}
	var lower []string
	for _, l := range slices.Backward(layers) {
		lower = append(lower, tree.MountVolume(t, l.File.Name()))
	}
	want, got := read(t, tree.MountOverlay(t, lower...)), read(t, tree.MountVolume(t, image))
	checkLinks(t, got)
	for name, e := range want { // an overlay counts links as the layer has them
		e.Links = got[name].Links
		want[name] = e
	}
	witnesses(t, image, d, want)
}

// checkLinks counts the links of a tree, since an overlay cannot tell.
func checkLinks(t *testing.T, entries files) {
	t.Helper()
	count := map[string]uint64{}
	for name, e := range entries {
		if isDir(e) {
			count[name] += 2
			if name != "." {
				count[filepath.Dir(name)]++
			}
		} else {
			count[e.Group]++
		}
	}
	for name, e := range entries {
		if e.Links != count[e.Group] {
			t.Errorf("%q: link count is %d, want %d", name, e.Links, count[e.Group])
		}
	}
}

// TestCorpusMergeRandom merges random layers that delete and replace what the layers below have, at any depth. The seed
// of a failure is in its name.
func TestCorpusMergeRandom(t *testing.T) {
	tree.RequireRoot(t)
	const seeds = 40
	have := map[string]int{}
	for seed := range uint64(seeds) {
		layers := randomLayers(t, seed)
		count(t, layers, have)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for i, layer := range layers {
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d.tar", i)), layer, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			judgeMerged(t, buildLayers(t, dir))
		})
	}
	for _, kind := range []string{"whiteout", "nested whiteout", "opaque directory", "hard link"} {
		if have[kind] < seeds {
			t.Errorf("%d of kind %s in all layers, want %d at least", have[kind], kind, seeds)
		}
	}
	t.Logf("%v", have)
}

// count adds the kinds of entries that the layers are made for.
func count(t *testing.T, layers [][]byte, have map[string]int) {
	t.Helper()
	for _, layer := range layers {
		for r := tar.NewReader(bytes.NewReader(layer)); ; {
			hdr, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			switch base := path.Base(hdr.Name); {
			case base == ".wh..wh..opq":
				have["opaque directory"]++
			case strings.HasPrefix(base, ".wh.") && strings.Contains(hdr.Name, "/"):
				have["nested whiteout"]++
			case strings.HasPrefix(base, ".wh."):
				have["whiteout"]++
			case hdr.Typeflag == tar.TypeLink:
				have["hard link"]++
			}
		}
	}
}
