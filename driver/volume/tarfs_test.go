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
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
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
