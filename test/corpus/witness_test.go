package corpus_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/corpus"
	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// files are the entries of a tree, by path.
type files = map[string]tree.Entry

// cacheDir returns the cache folder.
func cacheDir(t testing.TB) string {
	t.Helper()
	dir, err := env.Cache()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// trixie returns the command line of fsck.erofs of Debian 13; what keeps it away is asked for only once.
var trixie = sync.OnceValues(func() ([]string, error) {
	cache, err := env.Cache()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return corpus.Trixie(ctx, cache, "fsck.erofs")
})

// TestCorpusTrixie is there to be skipped if the other tests must do without a witness.
func TestCorpusTrixie(t *testing.T) {
	fsck, err := trixie()
	if err != nil {
		t.Skipf("no volume is checked with fsck.erofs 1.8, and none of layout tarfs with any: %v", err)
	}
	if out := run(t, fsck[0], append(fsck[1:], "--version")...); !strings.Contains(out, " 1.8") {
		t.Errorf("fsck.erofs of Debian 13 says %q, want 1.8", out)
	}
}

// run executes a program that must succeed.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// command prepares a program for which names are bytes, with messages in English.
func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	return cmd
}

// gnuExtract makes GNU tar, the judge of what a tar means, extract everything that it can.
var gnuExtract = []string{"tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "-p",
	"--delay-directory-restore"}

var bsdExtract = []string{"bsdtar", "--numeric-owner", "-p"}

// extract returns what a program extracts from a tar.
func extract(t testing.TB, tarFile string, program ...string) (files, error) {
	t.Helper()
	dir := t.TempDir()
	if err := extractTo(dir, tarFile, program...); err != nil {
		return nil, err
	}
	return read(t, dir), nil
}

func extractTo(dir, tarFile string, program ...string) error {
	out, err := command(program[0], append(program[1:], "-C", dir, "-xf", tarFile)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program[0], err, out)
	}
	return nil
}

// mustExtract returns what GNU tar extracts from a tar that it must accept.
func mustExtract(t testing.TB, tarFile string) files {
	t.Helper()
	want, err := extract(t, tarFile, gnuExtract...)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

func read(t testing.TB, dir string) files {
	t.Helper()
	entries, err := tree.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// convert makes a volume of a tar. On an error nothing but the tar's own folder may have anything in it.
func convert(t testing.TB, tarFile string, layout volume.Layout) (string, *volume.Description, error) {
	t.Helper()
	in, err := os.Open(tarFile)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	path := filepath.Join(t.TempDir(), volume.FileName)
	d, err := volume.Create(path, in, volume.BuildOptions{Layout: layout})
	if err != nil {
		left, e := os.ReadDir(filepath.Dir(path))
		if e != nil || len(left) > 0 {
			t.Errorf("a refused tar left %v behind, %v", left, e)
		}
	}
	return path, d, err
}

// eachLayout runs a test for both layouts.
func eachLayout(t *testing.T, test func(t *testing.T, layout volume.Layout)) {
	t.Helper()
	for _, layout := range volume.Layouts {
		t.Run(string(layout), func(t *testing.T) { test(t, layout) })
	}
}

// judge makes volumes of a tar in both layouts and calls the witnesses: each volume must have exactly what is wanted.
func judge(t *testing.T, tarFile string, want files) {
	t.Helper()
	eachLayout(t, func(t *testing.T, layout volume.Layout) {
		path, d, err := convert(t, tarFile, layout)
		if err != nil {
			t.Fatal(err)
		}
		witnesses(t, path, d, want)
	})
}

// witnesses has fsck.erofs, the kernel and go-erofs look at a volume.
func witnesses(t *testing.T, path string, d *volume.Description, want files) {
	t.Helper()
	fsck(t, path, d)
	kernel := read(t, tree.MountVolume(t, path))
	differ(t, "the kernel shows", settle(want, kernel), kernel)
	reader, err := tree.ReadEROFS(path)
	if err != nil {
		t.Fatal(err)
	}
	differ(t, "go-erofs reads", kernel, reader)
}

// fsck has each fsck.erofs check a volume that it can read: 1.5 of Debian 12 knows no blocks of 512 bytes.
func fsck(t *testing.T, path string, d *volume.Description) {
	t.Helper()
	if d.Layout != volume.LayoutTarfs {
		tree.RequireTool(t, "fsck.erofs")
		run(t, "fsck.erofs", path)
	}
	newer, err := trixie()
	if err != nil {
		return // TestCorpusTrixie says so
	}
	run(t, newer[0], append(newer[1:], path)...)
}

// settle returns want as a volume has it where an extraction cannot agree: a tar has no entry for implied directories,
// so an extraction gives them the present, and a volume, which must not depend on it, 1970; and a volume has no SELinux
// labels, which are the host's to set.
func settle(want, got files) files {
	settled := files{}
	for path, e := range want {
		is, ok := got[path]
		if ok && e.Mode&unix.S_IFMT == unix.S_IFDIR && is.MTime == (unix.Timespec{}) && e.MTime.Sec >= started {
			e.MTime = unix.Timespec{}
		}
		e.Xattrs = maps.Clone(e.Xattrs)
		delete(e.Xattrs, "security.selinux")
		settled[path] = e
	}
	return settled
}

// differ reports how two trees differ.
func differ(t *testing.T, who string, want, got files) {
	t.Helper()
	lines := tree.Diff(want, got, nil)
	for i, line := range lines {
		if i == 20 {
			t.Errorf("%s: and %d differences more", who, len(lines)-i)
			return
		}
		t.Errorf("%s: %s", who, line)
	}
}
