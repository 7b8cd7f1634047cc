package volume_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/verity"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// sameMeasured measures a layer and wants the description of the volume that was made of it, or an error as there.
func sameMeasured(t testing.TB, layer io.Reader, opts volume.BuildOptions, want *volume.Description, wantErr error) *volume.Measured {
	t.Helper()
	got, m, err := volume.Measure(layer, opts, t.TempDir())
	if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
		t.Fatalf("measuring: %v; building: %v", err, wantErr)
	}
	if err != nil {
		return nil
	}
	t.Cleanup(func() { m.Close() })
	if !reflect.DeepEqual(got, want) {
		t.Errorf("measured %+v, %+v;\nbuilt %+v, %+v", got, got.Verity, want, want.Verity)
	}
	return m
}

// sameMeasuredImage measures layers and wants what Merge makes of their volumes, which must verify. It returns the
// merged volume.
func sameMeasuredImage(t *testing.T, tars ...[]byte) string {
	t.Helper()
	dir := t.TempDir()
	layers := layersOf(t, dir, tars...)
	out, err := os.CreateTemp(dir, "image")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	want, _, err := volume.Merge(t.Context(), out, layers)
	if err != nil {
		t.Fatal(err)
	}
	var all []*volume.Measured
	for _, layer := range tars {
		_, m, err := volume.Measure(bytes.NewReader(layer), volume.BuildOptions{NoDiffID: true}, dir)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		all = append(all, m)
	}
	for range 2 { // measuring an image does not use the layers up
		got, err := volume.MeasureImage(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("measured %+v, %+v;\nmerged %+v, %+v", got, got.Verity, want, want.Verity)
		}
	}
	if _, err := volume.Verify(t.Context(), out, want.Size, want.Verity.RootHash, nil); err != nil {
		t.Error(err)
	}
	return out.Name()
}

func TestMeasureImage(t *testing.T) {
	for name, layers := range mergeCases {
		t.Run(name, func(t *testing.T) {
			var tars [][]byte
			for _, l := range layers {
				tars = append(tars, makeTar(t, l...))
			}
			sameMeasuredImage(t, tars...)
		})
	}
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			var tars [][]byte
			for range 1 + rng.IntN(6) {
				tars = append(tars, randomLayer(t, rng))
			}
			sameMeasuredImage(t, append(tars, tars[0])...) // one layer twice
		})
	}
	t.Run("golden", func(t *testing.T) {
		golden := []byte(read(t, goldenTar))
		sameMeasuredImage(t, golden, makeTar(t, file("dir/.wh.file", "")), golden)
	})
}

// TestMeasureLarge has so much data and metadata that neither is kept in memory.
func TestMeasureLarge(t *testing.T) {
	var entries []entry
	for i := range 30000 {
		entries = append(entries, withXattr(file(fmt.Sprintf("d%d/f%d", i%7, i), ""), "user.x", strings.Repeat("v", 200)))
	}
	for i := range 700 {
		entries = append(entries, file(fmt.Sprint("large", i), strings.Repeat(fmt.Sprint(i), 1<<18)))
	}
	sameMeasuredImage(t, makeTar(t, entries...), makeTar(t, file("d3/.wh.f3", ""), file("large5", "x")))
}

// TestMeasureApart measures tars of which the layout tarfs writes some files again: sparse ones, files with something
// behind their end, and such ones between each other.
func TestMeasureApart(t *testing.T) {
	for name, sizes := range map[string][]int{
		"one":     {100},
		"block":   {512},
		"longer":  {513, 5000, 511},
		"several": {1, 0, 512, 1023, 70000, 300000},
	} {
		t.Run(name, func(t *testing.T) {
			var layer []byte
			for i, size := range sizes {
				data := bytes.Repeat([]byte{byte('a' + i)}, size)
				layer = append(layer, raw(fmt.Sprint("f", i), int64(size), '0', "")...)
				layer = append(layer, data...)
				layer = append(layer, bytes.Repeat([]byte("Z"), -size&511)...)
				layer = append(layer, sparseEntry(fmt.Sprint("s", i), size+1)...)
			}
			layer = append(layer, twoZeroBlocks...)
			out, err := os.CreateTemp(t.TempDir(), "v")
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			for _, noVerity := range []bool{false, true} {
				opts := volume.BuildOptions{Layout: volume.LayoutTarfs, NoVerity: noVerity}
				if err := out.Truncate(0); err != nil {
					t.Fatal(err)
				}
				want, err := volume.Build(out, oneByteReader{bytes.NewReader(layer)}, opts)
				if err != nil {
					t.Fatal(err)
				}
				sameMeasured(t, bytes.NewReader(layer), opts, want, nil)
			}
		})
	}
}

// sparseEntry is a file of this size in GNU's old format: a hole and "x" at its end.
func sparseEntry(name string, size int) []byte {
	b := raw(name, 1, 'S', "")
	copy(b[257:], "ustar  \x00")
	copy(b[386:], octal(int64(size-1), 11)+"\x00"+octal(1, 11)+"\x00") // sp[0]: offset, numbytes
	copy(b[483:], octal(int64(size), 11)+"\x00")                       // realsize
	sum := int64(8 * ' ')
	for i, c := range b {
		if i < 148 || i >= 156 {
			sum += int64(c)
		}
	}
	copy(b[148:], octal(sum, 6)+"\x00 ")
	return append(b, append([]byte("x"), make([]byte, 511)...)...)
}

// TestMeasureRefuses merges what cannot be merged, as Merge does.
func TestMeasureRefuses(t *testing.T) {
	layer := makeTar(t, file("f", "x"))
	for _, opts := range []volume.BuildOptions{{NoVerity: true}, {Layout: volume.LayoutTarfs}} {
		_, m, err := volume.Measure(bytes.NewReader(layer), opts, "")
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if _, err := volume.MeasureImage(t.Context(), []*volume.Measured{m}); err == nil || !strings.Contains(err.Error(), "layer 1 of 1") {
			t.Errorf("%+v: %v", opts, err)
		}
	}
	if _, err := volume.MeasureImage(t.Context(), nil); err == nil {
		t.Error("an image of no layers was measured")
	}
	if _, _, err := volume.Measure(bytes.NewReader(layer), volume.BuildOptions{Layout: "x"}, ""); err == nil {
		t.Error("an unknown layout was measured")
	}
}

// TestLeavesReadAt reads digests across the places where they are kept.
func TestLeavesReadAt(t *testing.T) {
	l := &verity.Leaves{SpoolDir: t.TempDir()}
	defer l.Close()
	rng := rand.New(rand.NewPCG(1, 1))
	var want []byte
	for len(want) < 6<<20 {
		b := make([]byte, (1+rng.IntN(1<<14))*verity.DigestSize)
		rng.Uint64()
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		want = append(want, b...)
		if err := l.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 {
		from := rng.IntN(len(want))
		got := make([]byte, rng.IntN(1<<18))
		n, err := l.ReadAt(got, int64(from))
		if want := want[from:min(from+len(got), len(want))]; !bytes.Equal(got[:n], want) {
			t.Fatalf("%d bytes at %d are not what they were", len(got), from)
		}
		if (err != nil) != (n < len(got)) {
			t.Fatalf("%d of %d bytes, %v", n, len(got), err)
		}
	}
}
