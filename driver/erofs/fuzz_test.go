package erofs_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"testing"
	"time"

	"github.com/crio-erofs/crio-erofs/driver/erofs"
)

// image returns an image of a layer with all types of entries.
func image(t testing.TB, names ...string) []byte {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for i, name := range names {
		hdr := &tar.Header{Name: name, Mode: 0o644, ModTime: time.Unix(int64(i), 0), Uid: i << 15, Format: tar.FormatPAX,
			PAXRecords: map[string]string{"SCHILY.xattr.trusted.x": name}}
		switch i % 4 {
		case 0:
			hdr.Typeflag = tar.TypeDir
		case 1:
			hdr.Typeflag, hdr.Size = tar.TypeReg, 5000
		case 2:
			hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, "target"
		case 3:
			hdr.Typeflag = tar.TypeChar
		}
		if err := w.WriteHeader(hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, hdr.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var b erofs.MemoryData
	aligned, err := erofs.ReadAligned(&b, &layer)
	if err != nil {
		t.Fatal(err)
	}
	img, err := aligned.WriteMetadata(&b)
	if err != nil {
		t.Fatal(err)
	}
	return append(img.Head[:], b.Bytes()...)
}

// FuzzMerge feeds anything as the image of a layer. The reader must not panic, and of what it accepts it must be able
// to make an image that it accepts again.
func FuzzMerge(f *testing.F) {
	f.Add(image(f, "d", "d/f", "l", "c"))
	f.Add(image(f))
	f.Add(image(f, "d", "d/g", "d/l", ".wh.x"))
	lower := image(f, "d", "d/f", "d/l", "n")
	f.Fuzz(func(t *testing.T, upper []byte) {
		layers := []io.ReaderAt{bytes.NewReader(lower), bytes.NewReader(upper)}
		merged, err := erofs.Merge(layers)
		if err != nil {
			return
		}
		again, err := os.CreateTemp(t.TempDir(), "v")
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if _, err := again.Seek(int64(merged.Blocks)*erofs.BlockSize, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		img, err := merged.WriteMetadata(again)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := again.WriteAt(img.Head[:], 0); err != nil {
			t.Fatal(err)
		}
		if _, err := erofs.Merge([]io.ReaderAt{again}); err != nil {
			t.Errorf("what was written is not accepted: %v", err)
		}
	})
}
