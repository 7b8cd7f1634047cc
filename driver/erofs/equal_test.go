package erofs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

// TestEqualHashes finds files by hashes that are all equal, of few values, and as they are: the image is the same.
func TestEqualHashes(t *testing.T) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for i := range 300 {
		data := strings.Repeat(fmt.Sprint(i%97), 1+i*20)
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprint(i), Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data[:len(data)-i%2]+"xx"[:i%2]); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 { // equal ones
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprint("again", i), Size: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprint(w, i%10); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	make := func(hash func([]byte) uint64) []byte {
		var b MemoryData
		a, err := readAligned(&b, bytes.NewReader(layer.Bytes()), hash)
		if err != nil {
			t.Fatal(err)
		}
		if own := a.data.blocks - 1; own*BlockSize != uint64(b.Len()) {
			t.Fatalf("%d blocks and %d bytes", own, b.Len())
		}
		img, err := a.WriteMetadata(&b)
		if err != nil {
			t.Fatal(err)
		}
		return append(img.Head[:], b.Bytes()...)
	}
	want := make(newHash())
	for name, hash := range map[string]func([]byte) uint64{
		"one":  func([]byte) uint64 { return ^uint64(0) }, // and 0 is next
		"few":  func(b []byte) uint64 { return uint64(b[0] & 3) },
		"size": func(b []byte) uint64 { return uint64(len(b)) },
	} {
		if !bytes.Equal(make(hash), want) {
			t.Errorf("%s: another image", name)
		}
	}
}

// TestVersions reads images of other format versions.
func TestVersions(t *testing.T) {
	var b MemoryData
	a, err := ReadAligned(&b, bytes.NewReader(make([]byte, 1024)))
	if err != nil {
		t.Fatal(err)
	}
	img, err := a.WriteMetadata(&b)
	if err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]string{
		"crio-erofs 0": "versions 1 to 2", "crio-erofs 1": "checksum does not fit", "crio-erofs 2": "",
		"crio-erofs 3": `labelled "crio-erofs 3"`, "else": "versions 1 to 2",
	} {
		image := append(bytes.Clone(img.Head[:]), b.Bytes()...)
		clear(image[superStart+64 : superStart+80])
		copy(image[superStart+64:], label)
		_, err := Merge([]io.ReaderAt{bytes.NewReader(image)})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v; want %q", label, err, want)
		}
	}
}

// TestMergeOverlap takes blocks of a layer as files in a hostile image may have them: each is in the union once.
func TestMergeOverlap(t *testing.T) {
	m := &Merged{Blocks: 1}
	for _, p := range []struct{ layer, from, blocks, want uint64 }{
		{0, 5, 10, 1}, {0, 5, 10, 1}, {0, 7, 2, 3}, {0, 9, 8, 5}, {0, 17, 1, 13}, {0, 20, 3, 14}, {0, 21, 1, 15}, {1, 5, 1, 17}, {1, 5, 2, 17},
	} {
		if got := m.place(int(p.layer), p.from, p.blocks); got != p.want {
			t.Errorf("%+v: at block %d", p, got)
		}
	}
	if want := (Extent{0, 5, 1, 13}); len(m.Extents) != 3 || m.Extents[0] != want || m.Blocks != 19 {
		t.Errorf("%+v, %d blocks", m.Extents, m.Blocks)
	}
}
