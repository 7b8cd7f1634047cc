package volume_test

import (
	"archive/tar"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/tree"
)

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func names(t *testing.T, path ...string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(path...))
	if err != nil {
		t.Error(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("%s has %q, want %q", dir, got, want)
	}
}

// TestWhiteouts stacks two layers with overlayfs and sees what the upper one deletes from the lower one.
func TestWhiteouts(t *testing.T) {
	lower := mustMount(t, file("gone", "1"), file("kept", "2"), dir("opaque"), file("opaque/hidden", "3"),
		dir("both"), file("both/old", "4"), dir("late"), file("late/old", "5"), file("was-file", "6"), dir("sub/was-dir"))
	upper := mustMount(t, file(".wh.gone", ""),
		dir("opaque"), file("opaque/.wh..wh..opq", ""), file("opaque/new", "7"),
		file(".wh.both", ""), dir("both"), file("both/new", "8"), // deleted and made anew in one layer …
		dir("late"), file("late/new", "9"), file(".wh.late", ""), // … in either order
		file(".wh..wh.plnk", "AUFS's own"), dir("was-file"), file("sub/was-dir", "10"))
	merged := tree.MountOverlay(t, upper, lower)
	wantNames(t, merged, "both", "kept", "late", "opaque", "sub", "was-file")
	wantNames(t, filepath.Join(merged, "opaque"), "new")
	wantNames(t, filepath.Join(merged, "both"), "new")
	wantNames(t, filepath.Join(merged, "late"), "new")
	wantNames(t, filepath.Join(merged, "was-file"))
	if got := read(t, merged, "sub/was-dir"); got != "10" {
		t.Errorf("sub/was-dir has %q", got)
	}
	var st syscall.Stat_t
	if err := syscall.Lstat(filepath.Join(upper, "gone"), &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFCHR || st.Rdev != 0 {
		t.Errorf("whiteout is of mode %o, device %d, %v; want a character device 0:0", st.Mode, st.Rdev, err)
	}
}

// TestCoveredWhiteouts has deletions below what the layer itself deletes, replaces or makes opaque, in every order.
// They must leave nothing that an overlay would show.
func TestCoveredWhiteouts(t *testing.T) {
	lower := mustMount(t, file("a/b/old", "1"), file("c/old", "2"), file("d/old", "3"), file("e/old", "4"), file("f/g/old", "5"))
	entries := []entry{
		file(".wh.a", ""), file("a/b/.wh.old", ""), file("a/.wh.b", ""), // rm -rf a
		file("c", "now a file"), file("c/.wh.old", ""), file("c/.wh..wh..opq", ""),
		dir("d"), file("d/.wh..wh..opq", ""), file("d/.wh.old", ""), file("d/.wh.more", ""),
		symlink("e", "elsewhere"), file("e/.wh.old", ""),
		file("f/.wh.g", ""), dir("f/g"), file("f/g/.wh.old", ""), file("f/g/new", "6"),
	}
	for _, order := range [][]entry{entries, reversed(entries)} {
		upper := mustMount(t, order...)
		merged := tree.MountOverlay(t, upper, lower)
		wantNames(t, merged, "c", "d", "e", "f")
		wantNames(t, filepath.Join(merged, "d"))
		wantNames(t, filepath.Join(merged, "f"), "g")
		wantNames(t, filepath.Join(merged, "f/g"), "new")
		if got := read(t, merged, "c"); got != "now a file" {
			t.Errorf("c has %q", got)
		}
		wantNames(t, filepath.Join(upper, "d")) // nothing that a listing of the layer alone would show, either
		wantNames(t, filepath.Join(upper, "f/g"), "new")
	}
}

func reversed(entries []entry) []entry {
	entries = slices.Clone(entries)
	slices.Reverse(entries)
	return entries
}

// TestAUFS has AUFS's own files: hard links go to them, and they are not part of the layer.
func TestAUFS(t *testing.T) {
	root := mustMount(t, dir(".wh..wh.plnk"), file(".wh..wh.plnk/12.34", "data"), file(".wh..wh.aufs", ""),
		hardlink("a", ".wh..wh.plnk/12.34"), hardlink("b", ".wh..wh.plnk/12.34"), dir("d"), file("d/.wh..wh.own", ""))
	wantNames(t, root, "a", "b", "d")
	wantNames(t, filepath.Join(root, "d"))
	if got := read(t, root, "b"); got != "data" {
		t.Errorf("b has %q", got)
	}
}

// TestOwners has the numbers that are none.
func TestOwners(t *testing.T) {
	f := file("f", "x")
	f.Uid, f.Gid, f.Format = 1<<32-1, 1<<32-1, tar.FormatPAX
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(mustMount(t, f), "f"), &st); err != nil || st.Uid != 0 || st.Gid != 0 {
		t.Errorf("owner %d:%d, %v; want 0:0, as chown -1 leaves it", st.Uid, st.Gid, err)
	}
}

// TestUserXattrsOfLinks drops attributes that Linux does not let a link have.
func TestUserXattrsOfLinks(t *testing.T) {
	entries, err := tree.Read(mustMount(t, withXattr(symlink("l", "t"), "user.a", "1"), withXattr(file("f", "x"), "user.a", "1")))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries["l"].Xattrs) != 0 || len(entries["f"].Xattrs) != 1 {
		t.Errorf("%q, %q", entries["l"].Xattrs, entries["f"].Xattrs)
	}
}

// TestRepeatedEntries has names that come twice: the later entry wins, as with every extraction.
func TestRepeatedEntries(t *testing.T) {
	dir2 := dir("d")
	dir2.Mode = 0o700
	root := mustMount(t, file("f", "old"), hardlink("link", "f"), file("f", "new, longer"),
		dir("d"), file("d/kept", "kept"), dir2,
		file("becomes-dir", "x"), dir("becomes-dir"), dir("becomes-file"), file("becomes-file/lost", ""), file("becomes-file", "y"))
	if got := read(t, root, "f"); got != "new, longer" {
		t.Errorf("f has %q", got)
	}
	if got := read(t, root, "link"); got != "old" {
		t.Errorf("the link to the first f has %q", got)
	}
	wantNames(t, filepath.Join(root, "d"), "kept")
	if fi, err := os.Stat(filepath.Join(root, "d")); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("d: %v, %v; want the later entry's mode", fi.Mode(), err)
	}
	wantNames(t, filepath.Join(root, "becomes-dir"))
	if got := read(t, root, "becomes-file"); got != "y" {
		t.Errorf("becomes-file has %q", got)
	}
}

// TestNames has the forms in which tars spell one and the same name.
func TestNames(t *testing.T) {
	root := mustMount(t, dir("./"), file("./a", "1"), file("/b", "2"), file("c//d/./e", "3"), file("././/f", "4"), file("x/../g", "5"))
	wantNames(t, root, "a", "b", "c", "f", "g")
	if got := read(t, root, "c/d/e"); got != "3" {
		t.Errorf("c/d/e has %q", got)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(root, "c/d"), &st); err != nil || st.Mode != syscall.S_IFDIR|0o755 || st.Uid != 0 {
		t.Errorf("implied directory has mode %o, uid %d, %v", st.Mode, st.Uid, err)
	}
	if err := syscall.Stat(root, &st); err != nil || st.Mode != syscall.S_IFDIR|0o750 || st.Mtim.Sec != epoch.Unix() {
		t.Errorf("the root directory has mode %o, time %d, %v; want its entry's", st.Mode, st.Mtim.Sec, err)
	}
}

// TestSymlinksOnTheWay puts files below links of the same layer. They stay inside it whatever the links say.
func TestSymlinksOnTheWay(t *testing.T) {
	root := mustMount(t, dir("usr/lib"), symlink("lib", "usr/lib"), file("lib/a", "1"),
		symlink("abs", "/usr/lib"), file("abs/b", "2"), symlink("up", "../../../../usr"), file("up/lib/c", "3"),
		symlink("usr/self", "."), file("usr/self/self/d", "4"), hardlink("e", "lib/a"))
	wantNames(t, filepath.Join(root, "usr/lib"), "a", "b", "c")
	wantNames(t, filepath.Join(root, "usr"), "d", "lib", "self")
	wantNames(t, root, "abs", "e", "lib", "up", "usr")
	if got := read(t, root, "e"); got != "1" {
		t.Errorf("e has %q", got)
	}
}

// TestXattrs keeps what a layer may set and drops what would steer overlayfs or is the host's.
func TestXattrs(t *testing.T) {
	f := file("f", "x")
	acl := "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff" +
		"\x10\x00\x06\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"
	f.PAXRecords = map[string]string{
		"SCHILY.xattr.user.a":                    "1",
		"SCHILY.xattr.system.posix_acl_access":   acl,
		"SCHILY.xattr.trusted.overlay.redirect":  "/etc",
		"SCHILY.xattr.security.selinux":          "system_u:object_r:bin_t:s0",
		"SCHILY.xattr.unknown.namespace":         "2",
		"SCHILY.xattr.security.capability":       "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"SCHILY.xattr.trusted.overlay.overlay.x": "3",
	}
	f.Format = tar.FormatPAX
	entries, err := tree.Read(mustMount(t, f))
	if err != nil {
		t.Fatal(err)
	}
	got := entries["f"].Xattrs
	if len(got) != 3 || got["user.a"] != "1" || got["system.posix_acl_access"] != acl || len(got["security.capability"]) != 20 {
		t.Errorf("xattrs %q", got)
	}
}

// TestLibarchiveXattrs has attributes in libarchive's form, and one in both.
func TestLibarchiveXattrs(t *testing.T) {
	f := file("f", "x")
	f.Format, f.PAXRecords = tar.FormatPAX, map[string]string{
		"LIBARCHIVE.xattr.user.a%25b": "AAECAw", // without padding, as libarchive writes it
		"LIBARCHIVE.xattr.user.c":     "eA==",
		"LIBARCHIVE.xattr.user.both":  "b2xk",
		"SCHILY.xattr.user.both":      "new",
	}
	entries, err := tree.Read(mustMount(t, f))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"user.a%b": "\x00\x01\x02\x03", "user.c": "x", "user.both": "new"}
	if got := entries["f"].Xattrs; !maps.Equal(got, want) {
		t.Errorf("xattrs %q, want %q", got, want)
	}
	f.PAXRecords = map[string]string{"LIBARCHIVE.xattr.user.a": "!"}
	if _, _, err := create(t, makeTar(t, f)); err == nil {
		t.Error("accepted an attribute that is not base64")
	}
}

// TestEmptyLayer makes a volume of a tar without entries, as images have them.
func TestEmptyLayer(t *testing.T) {
	wantNames(t, mustMount(t))
}
