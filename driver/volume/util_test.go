package volume_test

import (
	"archive/tar"
	"bytes"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

func itoa[T int | int64 | uint64](n T) string { return strconv.FormatUint(uint64(n), 10) }

func atoi(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// entry is a line of a tar that a test writes.
type entry struct {
	tar.Header
	data string
}

func dir(name string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o750, ModTime: epoch}}
}

func file(name, data string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o640, ModTime: epoch}, data: data}
}

func symlink(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, ModTime: epoch}}
}

func hardlink(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, ModTime: epoch}}
}

var epoch = time.Unix(1_600_000_000, 0)

// makeTar returns a tar of the entries.
func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		hdr := e.Header
		hdr.Size = int64(len(e.data))
		if err := w.WriteHeader(&hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// create makes a volume of a tar in a directory of its own. Measuring must give the same description, or error.
func create(t testing.TB, layer []byte) (path string, d *volume.Description, err error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), volume.FileName)
	d, err = volume.Create(path, bytes.NewReader(layer), volume.BuildOptions{})
	sameMeasured(t, bytes.NewReader(layer), volume.BuildOptions{}, d, err)
	return path, d, err
}

// mustMount makes a volume of entries and mounts it.
func mustMount(t testing.TB, entries ...entry) string {
	t.Helper()
	path, _, err := create(t, makeTar(t, entries...))
	if err != nil {
		t.Fatal(err)
	}
	return tree.MountVolume(t, path)
}

func charDevice(name string, major, minor int64) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: name, Devmajor: major, Devminor: minor, ModTime: epoch}}
}
