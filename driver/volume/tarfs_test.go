package volume_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// TestTarfs gets the tar back, byte for byte, from volumes of tars of odd lengths too.
func TestTarfs(t *testing.T) {
	golden := []byte(read(t, goldenTar))
	small := makeTar(t, file("f", "data"), dir("d"))
	for name, layer := range map[string][]byte{
		"golden":            golden,
		"without an end":    small[:len(small)-1024],
		"a lone zero block": small[:len(small)-512],
		"with a record":     append(bytes.Clone(small), make([]byte, 8192)...),
		"with a tail":       append(bytes.Clone(small), "and something behind the archive"...),
		"empty":             makeTar(t),
		"nothing at all":    {},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := os.Create(filepath.Join(t.TempDir(), "v"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			d, err := volume.Build(out, bytes.NewReader(layer), volume.BuildOptions{Layout: volume.LayoutTarfs})
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("sha256:%x", sha256.Sum256(layer)); d.DiffID != want || d.Verity.DataBlockSize != 512 {
				t.Errorf("diffID %s, want %s; %+v", d.DiffID, want, d.Verity)
			}
			info, err := volume.Verify(context.Background(), out, d.Size, d.Verity.RootHash, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := info.VerifyTar(context.Background(), out); err != nil {
				t.Error(err)
			}
			r, err := info.TarReader(out)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, layer) {
				t.Errorf("%d bytes of tar come back, %v; want the %d that went in", len(got), err, len(layer))
			}
		})
	}
}

// TestTarfsBadInput feeds the bad layers: none is accepted in this layout that is refused in the other.
func TestTarfsBadInput(t *testing.T) {
	for _, layer := range [][]byte{
		makeTar(t, file("f", strings.Repeat("x", 5000)))[:3000],
		makeTar(t, file("../f", "x")),
		makeTar(t, hardlink("l", "nothing")),
		bytes.Repeat([]byte("no tar "), 1000),
	} {
		dir := t.TempDir()
		_, err := volume.Create(filepath.Join(dir, "v"), bytes.NewReader(layer), volume.BuildOptions{Layout: volume.LayoutTarfs})
		if err == nil {
			t.Error("accepted")
		}
		wantNames(t, dir)
	}
}

// TestTarfsPadding has files that are not followed by zeros in the tar. Mapped, a file must end with zeros all the
// same.
func TestTarfsPadding(t *testing.T) {
	layer := makeTar(t, file("a", strings.Repeat("a", 100)), file("b", strings.Repeat("b", 600)), file("c", strings.Repeat("c", 512)))
	for i := range 412 {
		layer[512+100+i] = 'Z'
	}
	path := filepath.Join(t.TempDir(), "v")
	if _, err := volume.Create(path, bytes.NewReader(layer), volume.BuildOptions{Layout: volume.LayoutTarfs}); err != nil {
		t.Fatal(err)
	}
	root := tree.MountVolume(t, path)
	for name, size := range map[string]int{"a": 100, "b": 600, "c": 512} {
		f, err := os.Open(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b, err := syscall.Mmap(int(f.Fd()), 0, 4096, syscall.PROT_READ, syscall.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(b), strings.Repeat(name, size)+strings.Repeat("\x00", 4096-size); got != want {
			t.Errorf("%s is mapped as %q", name, strings.Trim(got, "\x00"))
		}
		if err := syscall.Munmap(b); err != nil {
			t.Fatal(err)
		}
	}
}
