package volume_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// FuzzBuild feeds anything as a layer, in both layouts. What is accepted must verify and be measured alike, and two
// other readers must find their way through it: go-erofs and, for root, the kernel.
func FuzzBuild(f *testing.F) {
	f.Add(makeTar(f, dir("d"), file("d/f", "data"), symlink("l", "d"), hardlink("h", "d/f"), file("l/g", "x"), file(".wh.y", "")))
	f.Add(makeTar(f, file(strings.Repeat("long/", 60)+"f", "")))
	f.Add(makeTar(f, withXattr(file("x", "y"), "user.a", "1"), charDevice("null", 1, 3), dir("o"), file("o/.wh..wh..opq", "")))
	f.Add(makeTar(f, file("a", "equal"), file("b", "equal"), file("c", "other"), file("a", "equal"), hardlink("d", "b")))
	f.Add(raw("f", 1<<32, '0', ""))
	f.Add(append(raw("dev", 0, '3', ""), twoZeroBlocks...))
	f.Fuzz(func(t *testing.T, layer []byte) {
		for _, layout := range volume.Layouts {
			buildAndRead(t, layer, layout)
		}
	})
}

// buildAndRead makes a volume of what may be a layer and, if that is accepted, reads it with all readers there are. For
// root it returns what the kernel sees.
func buildAndRead(t *testing.T, layer []byte, layout volume.Layout) map[string]tree.Entry {
	out, err := os.CreateTemp(t.TempDir(), "v")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	opts := volume.BuildOptions{Layout: layout}
	d, err := volume.Build(out, bytes.NewReader(layer), opts)
	sameMeasured(t, bytes.NewReader(layer), opts, d, err)
	if err != nil {
		return nil
	}
	if _, err := volume.Verify(context.Background(), out, d.Size, d.Verity.RootHash, nil); err != nil {
		t.Fatalf("what was built does not verify: %v", err)
	}
	img, err := goerofs.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	err = fs.WalkDir(img, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		_, err = d.Info()
		return err
	})
	if err != nil {
		t.Fatalf("go-erofs: %v", err)
	}
	if os.Geteuid() != 0 {
		return nil
	}
	seen, err := tree.Read(tree.MountVolume(t, out.Name()))
	if err != nil {
		t.Fatalf("kernel: %v", err)
	}
	return seen
}

// FuzzVerify feeds anything as a volume.
func FuzzVerify(f *testing.F) {
	path, d, err := create(f, makeTar(f, file("f", "data")))
	if err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:d.Verity.TreeOffset])
	f.Add(good[:1200])
	f.Add(tarfsVolume(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := verify(b, d.Verity.RootHash); err == nil && !bytes.Equal(b, good) {
			t.Error("verified with a root hash that is another volume's")
		}
		_ = verify(b, "")
	})
}

// tarfsVolume returns a small volume of layout tarfs.
func tarfsVolume(f *testing.F) []byte {
	f.Helper()
	out, err := os.Create(filepath.Join(f.TempDir(), "v"))
	if err != nil {
		f.Fatal(err)
	}
	defer out.Close()
	opts := volume.BuildOptions{Layout: volume.LayoutTarfs}
	if _, err := volume.Build(out, bytes.NewReader(makeTar(f, file("f", "data"))), opts); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(out.Name())
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// FuzzManifest feeds anything as a manifest.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"version":1,"id":"x","mount_point":"/m","volumes":[{"path":"/v/layer.erofs","size":4096,"layout":"aligned"}]}`))
	f.Add([]byte(`{"version":1,"id":"x","mount_point":"/m","refusal":"no"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := volume.ParseManifest(b)
		if err == nil && m.Refusal == "" && len(m.Volumes) == 0 {
			t.Error("accepted without volumes or refusal")
		}
	})
}
