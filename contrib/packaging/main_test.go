package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/goreleaser/nfpm/v2/files"
)

// stage lays a few files out.
func stage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, path := range []string{"etc/crio-erofs/config.toml", "usr/bin/crio-erofs", "usr/share/crio-erofs/a/b"} {
		file := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(path), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("crio-erofs", filepath.Join(dir, "usr/bin/link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestContents(t *testing.T) {
	list, err := contents(stage(t), "crio-erofs", time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range list {
		if c.FileInfo.Owner != "root" || c.FileInfo.Group != "root" {
			t.Errorf("%s belongs to %s:%s", c.Destination, c.FileInfo.Owner, c.FileInfo.Group)
		}
		got = append(got, c.Type+" "+c.Destination)
	}
	want := []string{
		files.TypeDir + " /etc/crio-erofs", files.TypeConfigNoReplace + " /etc/crio-erofs/config.toml",
		files.TypeFile + " /usr/bin/crio-erofs", files.TypeSymlink + " /usr/bin/link",
		files.TypeDir + " /usr/share/crio-erofs", files.TypeDir + " /usr/share/crio-erofs/a",
		files.TypeFile + " /usr/share/crio-erofs/a/b",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestReproducible: the same files give the same packages, whenever they were laid out.
func TestReproducible(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1750000000")
	for _, format := range []string{"deb", "rpm"} {
		var first []byte
		for i := range 3 {
			dir := stage(t)
			if err := os.Chtimes(filepath.Join(dir, "usr/bin/crio-erofs"), time.Now(), time.Unix(int64(i), 0)); err != nil {
				t.Fatal(err)
			}
			path, err := build("node.yaml", "1.2.3", format, dir, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = content
			}
			if !slices.Equal(first, content) {
				t.Errorf("%s %d is another one", format, i)
			}
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "")
	if _, err := build("node.yaml", "1.2.3", "deb", stage(t), t.TempDir()); err == nil {
		t.Error("without SOURCE_DATE_EPOCH there is a package")
	}
}

func TestLibraries(t *testing.T) {
	needs := map[string][]string{
		"libc.so.6":       {"", "GLIBC_2.9", "GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_PRIVATE"},
		"libseccomp.so.2": {""},
	}
	got, err := debLibraries(needs)
	if want := []string{"libc6 (>= 2.34)", "libseccomp2 (>= 2.5.0)"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if _, err := debLibraries(map[string][]string{"libother.so.1": nil}); err == nil {
		t.Error("an unknown library is no error")
	}
	rpm := rpmLibraries(map[string][]string{"libc.so.6": {"", "GLIBC_2.34", "GLIBC_2.34"}})
	if want := []string{"libc.so.6()(64bit)", "libc.so.6(GLIBC_2.34)(64bit)"}; !slices.Equal(rpm, want) {
		t.Errorf("got %q, want %q", rpm, want)
	}
}
