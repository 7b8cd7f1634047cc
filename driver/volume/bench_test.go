package volume_test

import (
	"archive/tar"
	"bufio"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// benchTar writes a tar of some 200 MB in 5,000 files, as a Debian tree has them, and returns its path and size.
func benchTar(b *testing.B) (string, int64) {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "layer.tar"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buffered := bufio.NewWriter(f)
	w := tar.NewWriter(buffered)
	rng := rand.NewChaCha8([32]byte{})
	for i := range 5000 {
		size := 1 << (i % 17) // 1 byte to 64 KiB …
		if i%100 == 0 {
			size = 3 << 20 // … and a few large ones
		}
		name := "usr/share/package" + strconv.Itoa(i/50) + "/file" + strconv.Itoa(i)
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(size), ModTime: epoch}); err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyN(w, rng, int64(size)); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	if err := buffered.Flush(); err != nil {
		b.Fatal(err)
	}
	fi, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	return f.Name(), fi.Size()
}

// BenchmarkBuild makes a volume; the floor is writing the tar to a file.
func BenchmarkBuild(b *testing.B) {
	path, size := benchTar(b)
	run := func(name string, work func(out *os.File, in io.Reader) error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				in, err := os.Open(path)
				if err != nil {
					b.Fatal(err)
				}
				out, err := os.CreateTemp(b.TempDir(), "v")
				if err != nil {
					b.Fatal(err)
				}
				if err := work(out, in); err != nil {
					b.Fatal(err)
				}
				in.Close()
				out.Close()
				os.Remove(out.Name())
			}
		})
	}
	run("volume", func(out *os.File, in io.Reader) error {
		_, err := volume.Build(out, in, volume.BuildOptions{})
		return err
	})
	run("volume-no-verity", func(out *os.File, in io.Reader) error {
		_, err := volume.Build(out, in, volume.BuildOptions{NoVerity: true})
		return err
	})
	run("floor-copy", func(out *os.File, in io.Reader) error {
		_, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, make([]byte, 1<<20))
		return err
	})
}
