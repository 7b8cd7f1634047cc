package clitest

import (
	"archive/tar"
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// Epoch is when files of tests were modified.
var Epoch = time.Unix(1_600_000_000, 5)

// File is a regular file for Tar.
func File(name, data string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o640, Uid: 12, Gid: 34, Linkname: data}
}

// Dir is a directory for Tar.
func Dir(name string, mode int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}
}

// Link is a symbolic link for Tar.
func Link(name, target string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}
}

// Tar makes a tar. A regular file has its content in Linkname.
func Tar(t testing.TB, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		header, data := *h, ""
		if h.Typeflag == tar.TypeReg {
			header.Linkname, data = "", h.Linkname
		}
		header.Size, header.ModTime, header.Format = int64(len(data)), Epoch, tar.FormatPAX
		if err := w.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Volume makes a volume of a tar and returns its path.
func Volume(t testing.TB, layout volume.Layout, layer []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), volume.FileName)
	if _, err := volume.Create(path, bytes.NewReader(layer), volume.BuildOptions{Layout: layout}); err != nil {
		t.Fatal(err)
	}
	return path
}
