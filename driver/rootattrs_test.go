package driver_test

import (
	"archive/tar"
	"os"
	"testing"
)

// TestRootAttributes has layers whose tars say nothing of the root directory: it stays as it was below them.
func TestRootAttributes(t *testing.T) {
	needRoot(t)
	for _, layout := range []string{"aligned", "tarfs"} {
		t.Run(layout, func(t *testing.T) { testRootAttributes(t, layout) })
	}
}

func testRootAttributes(t *testing.T, layout string) {
	d, _ := newDriver(t, "erofs.layout="+layout)
	apply(t, d, "base", "", makeTar(t, file{name: "./", kind: tar.TypeDir, mode: 0o1711}, file{name: "a", content: "a"}))
	apply(t, d, "top", "base", makeTar(t, file{name: "b", content: "b"}))
	apply(t, d, "set", "top", makeTar(t, file{name: "./", kind: tar.TypeDir, mode: 0o750}))
	apply(t, d, "alone", "", makeTar(t, file{name: "b", content: "b"}))
	for parent, want := range map[string]os.FileMode{
		"base": 0o711 | os.ModeSticky, "top": 0o711 | os.ModeSticky, "set": 0o750, "alone": 0o555,
	} {
		if err := d.CreateReadWrite("c-"+parent, parent, nil); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(get(t, d, "c-"+parent))
		if err != nil {
			t.Fatal(err)
		}
		if got := fi.Mode() &^ os.ModeDir; got != want {
			t.Errorf("root of a container of %s has mode %v, want %v", parent, got, want)
		}
	}
}
