package tree_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/clitest"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/tree"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

func TestLookup(t *testing.T) {
	s := openAll(t, clitest.Volume(t, volume.LayoutAligned, clitest.Tar(t, clitest.Dir("usr", 0o755), clitest.Dir("usr/bin", 0o755),
		clitest.File("usr/bin/sh", "sh"), clitest.Link("bin", "usr/bin"), clitest.Link("abs", "/usr/bin/../bin"),
		clitest.Link("loop", "loop"), clitest.Link("up", "../../../usr"), clitest.Link("dangling", "nothing"))),
		clitest.Volume(t, volume.LayoutAligned, clitest.Tar(t, clitest.Dir("usr", 0o755), clitest.Dir("usr/bin", 0o755), clitest.File("usr/bin/ls", "ls"))))
	for path, want := range map[string]string{
		"/": "/", "": "/", ".": "/", "..": "/", "bin/sh": "/usr/bin/sh", "/bin/ls": "/usr/bin/ls", "abs/sh": "/usr/bin/sh",
		"up/bin//ls": "/usr/bin/ls", "usr/../bin": "/usr/bin", "usr/bin/": "/usr/bin",
	} {
		if _, at, err := s.Lookup(path, true); err != nil || at != want {
			t.Errorf("%q is %q, %v; want %q", path, at, err, want)
		}
	}
	if n, at, err := s.Lookup("bin", false); err != nil || at != "/bin" || n.Mode()&fs.ModeSymlink == 0 || n.Layer() != 0 {
		t.Errorf("%s, %v", at, err)
	}
	if n, _, err := s.Lookup("bin/ls", false); err != nil || n.Layer() != 1 || n.Name() != "ls" {
		t.Error(err)
	}
	for path, want := range map[string]string{"loop": "more than 40 symbolic links", "dangling": "not exist", "bin/no": "not exist",
		"bin/sh/x": "/usr/bin/sh is not a directory", "bin/sh/..": "is not a directory"} {
		if _, _, err := s.Lookup(path, true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", path, err, want)
		}
	}
}

func TestDiff(t *testing.T) {
	mtime := clitest.File("mtime", "x")
	base := clitest.Tar(t, clitest.File("content", "abc"), clitest.File("same", "same"), clitest.Dir("gone", 0o755),
		clitest.File("gone/below", ""), clitest.File("owner", ""), clitest.Link("link", "a"), clitest.Dir("mode", 0o755), clitest.File("type", ""), mtime)
	owner := clitest.File("owner", "")
	owner.Uid, owner.PAXRecords = 99, map[string]string{"SCHILY.xattr.user.a": "b"}
	later := clitest.Tar(t, clitest.File("content", "abd"), clitest.File(".wh.gone", ""), owner, clitest.Link("link", "b"),
		clitest.Dir("mode", 0o1755), clitest.Dir("type", 0o640), clitest.Dir("new", 0o755), clitest.File("new/size", "1"), mtime)
	const mtimeRecord = "mtime=1600000000.000000005"
	copy(later[bytes.LastIndex(later, []byte(mtimeRecord)):], "mtime=1600000000.000000006")
	below := clitest.Volume(t, volume.LayoutAligned, base)
	a, b := openAll(t, below), openAll(t, below, clitest.Volume(t, volume.LayoutAligned, later))
	diff := func(ignore ...string) (lines []string) {
		err := tree.Diff(t.Context(), a, b, ignore, func(int64) {}, func(c tree.Change) error {
			kind := "C "
			if c.Old == nil {
				kind = "A "
			} else if c.New == nil {
				kind = "D "
			}
			lines = append(lines, kind+c.Path+" "+strings.Join(c.What, ","))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return lines
	}
	want := []string{"C /content content", "D /gone ", "D /gone/below ", "C /link target", "C /mode mode", "C /mtime mtime",
		"A /new ", "A /new/size ", "C /owner owner,xattrs", "C /type type,owner"}
	got := diff()
	if !slices.Equal(got, want) {
		t.Errorf("%q; want %q", got, want)
	}
	got = diff("mtime", "content", "target", "mode", "owner", "xattrs", "type", "size", "device")
	if want := []string{"D /gone ", "D /gone/below ", "A /new ", "A /new/size "}; !slices.Equal(got, want) {
		t.Errorf("%q; want %q", got, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tree.Diff(ctx, a, b, nil, func(int64) {}, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := tree.CheckAspects([]string{"mtime", "colour"}); err == nil || !strings.Contains(err.Error(), `"colour"`) {
		t.Error(err)
	}
}

func TestModeText(t *testing.T) {
	for mode, want := range map[fs.FileMode]string{
		0o644: "-rw-r--r--", fs.ModeDir | fs.ModeSticky | 0o777: "drwxrwxrwt", fs.ModeSetuid | 0o755: "-rwsr-xr-x",
		fs.ModeSetgid | 0o644: "-rw-r-Sr--", fs.ModeSymlink | 0o777: "lrwxrwxrwx", fs.ModeDevice | fs.ModeCharDevice: "c---------",
		fs.ModeDevice | 0o660: "brw-rw----", fs.ModeNamedPipe | 0o001: "p--------x", fs.ModeSticky: "---------T", fs.ModeSocket: "s---------",
	} {
		if got := tree.ModeText(mode); got != want {
			t.Errorf("%v is %s; want %s", mode, got, want)
		}
	}
}

// FuzzTree: damaged volumes end with an error, or are read; nothing hangs and nothing is read forever.
func FuzzTree(f *testing.F) {
	for _, layout := range []volume.Layout{volume.LayoutAligned, volume.LayoutTarfs} {
		path := clitest.Volume(f, layout, clitest.Tar(f, clitest.Dir("d", 0o755), clitest.File("d/f", "data"), clitest.Link("l", "d/f"),
			&tar.Header{Typeflag: tar.TypeDir, Name: "x", PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}}))
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, volume []byte) {
		s, err := tree.OpenStack(bytes.NewReader(volume), bytes.NewReader(volume))
		if err != nil {
			return
		}
		root, err := s.Root()
		if err != nil {
			return
		}
		deadline := time.Now().Add(20 * time.Second)
		_ = s.Walk("/", root, func(_ string, n *tree.Node) error {
			n.Xattrs()
			if time.Now().After(deadline) {
				t.Fatalf("a volume of %d bytes has no end", len(volume))
			}
			if n.Mode()&fs.ModeSymlink != 0 {
				_, _ = n.Target()
			}
			return nil
		})
	})
}
