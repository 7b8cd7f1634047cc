package volume_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// raw is a tar header block with a right checksum, for what archive/tar refuses to write.
func raw(name string, size int64, typeflag byte, link string) []byte {
	b := make([]byte, 512)
	copy(b[0:100], name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], octal(size, 11)+"\x00")
	copy(b[136:], "14000000000\x00")
	copy(b[148:], "        ")
	b[156] = typeflag
	copy(b[157:257], link)
	copy(b[257:], "ustar\x0000")
	var sum int64
	for _, c := range b {
		sum += int64(c)
	}
	copy(b[148:], octal(sum, 6)+"\x00 ")
	return b
}

func octal(n int64, width int) string {
	s := ""
	for range width {
		s = string(rune('0'+n&7)) + s
		n >>= 3
	}
	return s
}

var twoZeroBlocks = make([]byte, 1024)

// TestBadInput has everything that a layer must not be. Each gets an error that names the entry and what is wrong, and
// leaves nothing behind.
func TestBadInput(t *testing.T) {
	good := makeTar(t, dir("d"), file("d/f", strings.Repeat("data ", 5000)))
	tooLarge := makeTar(t, dir("d"))
	tooLarge = append(append([]byte{}, tooLarge[:len(tooLarge)-1024]...), raw("huge", 0o77777777777, '0', "")...)
	nul := entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "placeholder", ModTime: epoch, Format: tar.FormatPAX}}
	nul.Name = strings.Repeat("x", 120)
	withNUL := bytes.ReplaceAll(makeTar(t, nul), []byte("path="+nul.Name), []byte("path="+strings.Repeat("x", 60)+"\x00"+strings.Repeat("x", 59)))
	big := file("f", "x")
	big.PAXRecords, big.Format = map[string]string{"SCHILY.xattr.user.big": strings.Repeat("v", 70000)}, tar.FormatPAX
	for _, c := range []struct {
		name  string
		layer []byte
		want  []string // parts of the message
	}{
		{"truncated in data", good[:3000], []string{`"d/f"`, "truncated"}},
		{"truncated in a header", good[:700], []string{`after "d"`, "truncated"}},
		{"not a tar", bytes.Repeat([]byte("no tar "), 1000), []string{"entry after the beginning", "invalid tar header"}},
		{"header claims more than there is", tooLarge, []string{`"huge"`, "data of 8589934591 bytes", "truncated"}},
		{"header claims less than there is", append(raw("f", 1, '0', ""), bytes.Repeat([]byte("y"), 2048)...), []string{`after "f"`, "invalid tar header"}},
		{"negative size", append(raw("f", 0, '0', "")[:124], append([]byte("-0000000001\x00"), raw("f", 0, '0', "")[136:]...)...), []string{"invalid tar header"}},
		{"dot-dot", makeTar(t, file("../escape", "x")), []string{`"../escape"`, `".."`}},
		{"dot-dot inside", makeTar(t, file("a/../../escape", "x")), []string{`".."`}},
		{"absolute dot-dot", makeTar(t, file("/../etc/passwd", "x")), []string{`".."`}},
		{"NUL in name", withNUL, []string{"invalid tar header"}},
		{"hard link to nothing", makeTar(t, hardlink("l", "nothing")), []string{`"l"`, `hard link to "nothing"`, "does not have before it"}},
		{"hard link to a later entry", makeTar(t, hardlink("l", "f"), file("f", "x")), []string{`hard link to "f"`}},
		{"hard link to a directory", makeTar(t, dir("d"), hardlink("l", "d")), []string{"is a directory"}},
		{"hard link out of the layer", makeTar(t, hardlink("l", "../../etc/shadow")), []string{`".."`}},
		{"file on the way", makeTar(t, file("f", "x"), file("f/g", "y")), []string{`"f/g"`, `"f" on the way to it is not a directory`}},
		{"symbolic link loop", makeTar(t, symlink("a", "b"), symlink("b", "a"), file("a/f", "x")), []string{"symbolic links on the way"}},
		{"10,000 directories deep", makeTar(t, dir(strings.Repeat("d/", 10000))), []string{"path of 20000 bytes", "4095"}},
		{"long component", makeTar(t, file(strings.Repeat("n", 256), "x")), []string{"component of 256 bytes", "255"}},
		{"empty link target", append(raw("l", 0, '2', ""), twoZeroBlocks...), []string{`"l"`, "symbolic link to nothing"}},
		{"unknown type", append(raw("u", 0, 'Z', ""), twoZeroBlocks...), []string{`"u"`, "'Z'"}},
		{"root is a file", append(raw("./", 0, '1', "x"), twoZeroBlocks...), []string{"root must be a directory"}},
		{"garbage for an ACL", makeTar(t, withXattr(file("f", "x"), "system.posix_acl_access", "\x02\x00\x00\x00garbage!")), []string{"not a POSIX ACL"}},
		{"whiteout of nothing", makeTar(t, file("d/.wh.", "")), []string{"whiteout"}},
		{"whiteout of dot-dot", makeTar(t, file("d/.wh...", "")), []string{"whiteout"}},
		{"device number", makeTar(t, entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "dev", Devmajor: 5000, ModTime: epoch}}), []string{`"dev"`, "5000:0"}},
		{"extended attribute", makeTar(t, big), []string{"user.big", "65535"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, _, err := create(t, c.layer)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
			wantNames(t, filepath.Dir(path))
		})
	}
}

// TestDeepThroughLinks nests directories deeper than a path can be, with links as short cuts.
func TestDeepThroughLinks(t *testing.T) {
	half := strings.Repeat("d/", 1500)
	_, _, err := create(t, makeTar(t, dir(half), symlink("s", half), dir("s/"+half)))
	if err == nil || !strings.Contains(err.Error(), "nested more than 2048 deep") {
		t.Errorf("got %v", err)
	}
}

// TestSparseBomb claims a terabyte of holes in a few bytes.
func TestSparseBomb(t *testing.T) {
	tree.RequireTool(t, "tar")
	src, tarFile := t.TempDir(), filepath.Join(t.TempDir(), "layer.tar")
	run(t, "truncate", "-s", "1T", filepath.Join(src, "bomb"))
	run(t, "tar", "--sparse", "-C", src, "-cf", tarFile, "bomb")
	layer, err := os.ReadFile(tarFile)
	if err != nil {
		t.Fatal(err)
	}
	path, _, err := create(t, layer)
	if err == nil || !strings.Contains(err.Error(), `"bomb"`) || !strings.Contains(err.Error(), "sparse files are larger than 17179869184") {
		t.Errorf("got %v", err)
	}
	wantNames(t, filepath.Dir(path))
}

// TestCorruptGzip has a damaged compressed stream: its checksum stands behind the end of the archive.
func TestCorruptGzip(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(makeTar(t, file("f", strings.Repeat("x", 100000)))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func([]byte) []byte{
		"checksum":  func(b []byte) []byte { b[len(b)-8] ^= 1; return b },
		"data":      func(b []byte) []byte { b[len(b)/2] ^= 0x55; return b },
		"truncated": func(b []byte) []byte { return b[:len(b)-4] },
	} {
		t.Run(name, func(t *testing.T) {
			r, err := gzip.NewReader(bytes.NewReader(damage(bytes.Clone(b.Bytes()))))
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if _, err := volume.Create(filepath.Join(dir, "v"), r, volume.BuildOptions{}); err == nil {
				t.Error("accepted")
			}
			wantNames(t, dir)
		})
	}
}

// TestFullDisk runs out of space at different points and leaves nothing behind.
func TestFullDisk(t *testing.T) {
	dir := tree.SmallFileSystem(t, 16<<20)
	if err := os.Remove(filepath.Join(dir, "lost+found")); err != nil {
		t.Fatal(err)
	}
	data := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	for _, files := range []int{100, 16, 15, 14} {
		var entries []entry
		for i := range files {
			entries = append(entries, file("f"+itoa(i), data))
		}
		_, err := volume.Create(filepath.Join(dir, "v"), bytes.NewReader(makeTar(t, entries...)), volume.BuildOptions{})
		if err == nil {
			if err := os.Remove(filepath.Join(dir, "v")); err != nil {
				t.Fatal(err)
			}
		} else if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%d MiB: %v, want ENOSPC", files, err)
		}
		if err == nil && files > 15 {
			t.Errorf("%d MiB fit on a file system of 16 MiB", files)
		}
		wantNames(t, dir)
	}
}

func withXattr(e entry, name, value string) entry {
	e.Format, e.PAXRecords = tar.FormatPAX, map[string]string{"SCHILY.xattr." + name: value}
	return e
}

// TestTooManyXattrs has more names of attributes than listxattr(2) can return.
func TestTooManyXattrs(t *testing.T) {
	e := file("f", "x")
	e.Format, e.PAXRecords = tar.FormatPAX, map[string]string{}
	for i := range 600 {
		e.PAXRecords["SCHILY.xattr.user."+itoa(i)+strings.Repeat("n", 200)] = "v"
	}
	if _, _, err := create(t, makeTar(t, e)); err == nil || !strings.Contains(err.Error(), "names of extended attributes") {
		t.Errorf("got %v", err)
	}
}

// TestNotAFile refuses to put a volume in the place of something else.
func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("elsewhere", link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, link, dir} {
		before, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := volume.Create(path, bytes.NewReader(makeTar(t)), volume.BuildOptions{}); err == nil {
			t.Errorf("%s was replaced", path)
		}
		if after, err := os.Lstat(path); err != nil || after.Mode() != before.Mode() {
			t.Errorf("%s is now %v, %v", path, after, err)
		}
	}
	wantNames(t, dir, "fifo", "link")
}

// TestStalledSource finds a tar bad whose source stands still: Build does not wait for more of it.
func TestStalledSource(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), volume.FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	r, w := io.Pipe()
	go func() { _, _ = w.Write(bytes.Repeat([]byte("no tar "), 1<<16)) }() // as much as is read at once, and no more
	if _, err := volume.Build(out, r, volume.BuildOptions{}); err == nil || !strings.Contains(err.Error(), "tar") {
		t.Fatalf("error %v", err)
	}
	if _, writeErr := w.Write([]byte("more")); writeErr == nil || !strings.Contains(writeErr.Error(), "tar") {
		t.Errorf("who writes learns %v", writeErr)
	}
}
