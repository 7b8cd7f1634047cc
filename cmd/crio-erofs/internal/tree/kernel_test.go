package tree_test

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/clitest"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/tree"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	testtree "github.com/crio-erofs/crio-erofs/test/tree"
)

// layers of an image, the lowest first, in which later ones hide, replace and add to earlier ones.
func layers(t testing.TB) [][]byte {
	golden, err := os.ReadFile("../../../../driver/volume/testdata/golden.tar")
	if err != nil {
		t.Fatal(err)
	}
	acl := &tar.Header{Typeflag: tar.TypeReg, Name: "sticky/acl", Mode: 0o4755, PAXRecords: map[string]string{
		"SCHILY.xattr.user.note": "x", "SCHILY.xattr.system.posix_acl_access": "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff" +
			"\x02\x00\x06\x00\x01\x00\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x06\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"}}
	return [][]byte{
		golden,
		clitest.Tar(t, clitest.Dir("a", 0o755), clitest.File("a/old", "old"), clitest.File("a/gone", "gone"), clitest.Dir("d", 0o700),
			clitest.File("d/below", "1"), clitest.Dir("d/sub", 0o755), clitest.File("d/sub/deep", "2"), clitest.File("turns", "file"),
			clitest.Dir("turned", 0o755), clitest.File("turned/x", "x"), clitest.Dir("again", 0o755), clitest.File("again/x", "x"),
			clitest.Dir("sticky", 0o3777), acl, clitest.Link("l", "a/old"),
			&tar.Header{Typeflag: tar.TypeBlock, Name: "block", Devmajor: 259, Devminor: 70000, Mode: 0o660}),
		clitest.Tar(t, clitest.File("a/.wh.gone", ""), clitest.File("a/new", strings.Repeat("n", 9000)), clitest.Dir("d", 0o711),
			clitest.File("d/.wh..wh..opq", ""), clitest.File("d/above", "3"), clitest.Dir("turns", 0o755), clitest.File("turns/y", "y"),
			clitest.Link("turned", "/a"), clitest.File(".wh.again", "")),
		clitest.Tar(t, clitest.Dir("again", 0o755), clitest.File("again/z", "z"), clitest.Dir("d", 0o700),
			clitest.Dir("d/sub", 0o755), clitest.File("a/old", "newer")),
	}
}

// volumes makes a volume of each layer.
func volumes(t testing.TB) (paths []string) {
	for _, layer := range layers(t) {
		paths = append(paths, clitest.Volume(t, volume.LayoutAligned, layer))
	}
	return paths
}

func openAll(t testing.TB, paths ...string) *tree.Stack {
	t.Helper()
	var readers []io.ReaderAt
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		readers = append(readers, f)
	}
	s, err := tree.OpenStack(readers...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestStackIsTheKernels: a stack shows what an overlay of the kernel's mounts shows.
func TestStackIsTheKernels(t *testing.T) {
	testtree.RequireRoot(t)
	paths := volumes(t)
	var lowers []string // topmost first
	for _, path := range paths {
		lowers = append([]string{testtree.MountVolume(t, path)}, lowers...)
	}
	want, err := testtree.Read(testtree.MountOverlay(t, lowers...))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, want, openAll(t, paths...))
}

// TestVolumeIsTheKernels: one volume shows what the kernel's mount of it shows, whiteouts included.
func TestVolumeIsTheKernels(t *testing.T) {
	testtree.RequireRoot(t)
	for i, layer := range layers(t)[:3] {
		for _, layout := range []volume.Layout{volume.LayoutAligned, volume.LayoutTarfs} {
			path := clitest.Volume(t, layout, layer)
			want, err := testtree.Read(testtree.MountVolume(t, path))
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			s, err := tree.Open(f)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("layer %d, %s: %d files", i, layout, len(want))
			compare(t, want, s)
		}
	}
}

func compare(t *testing.T, want map[string]testtree.Entry, s *tree.Stack) {
	t.Helper()
	root, err := s.Root()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]testtree.Entry{}
	err = s.Walk(".", root, func(path string, n *tree.Node) error {
		got[path], err = entryOf(n)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, w := range want {
		w.Group = ""
		if w.Mode&unix.S_IFMT == unix.S_IFDIR {
			w.Links = 0 // overlayfs says 1 of merged directories
		}
		want[path] = w
	}
	for _, line := range testtree.Diff(want, got, func(string) bool { return false }) {
		t.Error(line)
	}
}

func entryOf(n *tree.Node) (testtree.Entry, error) {
	e := testtree.Entry{Mode: unixMode(n.Mode()), UID: n.UID(), GID: n.GID(), Links: n.Nlink(), Xattrs: n.Xattrs()}
	e.MTime = unix.NsecToTimespec(n.ModTime().UnixNano())
	var err error
	switch {
	case n.IsDir():
		e.Links = 0
		return e, nil
	case n.Mode()&fs.ModeSymlink != 0:
		e.Target, err = n.Target()
	case n.Mode()&fs.ModeDevice != 0:
		major, minor := n.DeviceNumbers()
		e.Rdev = unix.Mkdev(major, minor)
	case n.Mode().IsRegular():
		f, openErr := n.Open()
		if openErr != nil {
			return e, openErr
		}
		defer f.Close()
		h := sha256.New()
		_, err = io.Copy(h, f)
		e.SHA256 = hex.EncodeToString(h.Sum(nil))
	}
	e.Size = n.Size()
	return e, err
}

func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for bit, unixBit := range map[fs.FileMode]uint32{fs.ModeSetuid: unix.S_ISUID, fs.ModeSetgid: unix.S_ISGID, fs.ModeSticky: unix.S_ISVTX} {
		if m&bit != 0 {
			mode |= unixBit
		}
	}
	for bit, unixBit := range map[fs.FileMode]uint32{0: unix.S_IFREG, fs.ModeDir: unix.S_IFDIR, fs.ModeSymlink: unix.S_IFLNK,
		fs.ModeNamedPipe: unix.S_IFIFO, fs.ModeDevice: unix.S_IFBLK, fs.ModeDevice | fs.ModeCharDevice: unix.S_IFCHR} {
		if m.Type() == bit {
			mode |= unixBit
		}
	}
	return mode
}
