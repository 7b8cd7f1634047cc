package packages_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

var update = flag.Bool("update", false, "write the lists in testdata")

// entry is a line of a list: mode, owner, path, a link's target, and whether it is configuration.
func entry(mode fs.FileMode, owner, path, target string, config bool) string {
	if mode&fs.ModeSymlink != 0 {
		mode |= 0o777 // nobody heeds it, and rpm has 0 there
	}
	line := fmt.Sprintf("%v %s %s", mode, owner, path)
	if target != "" {
		line += " -> " + target
	}
	if config {
		line += " (configuration)"
	}
	return line
}

// many stands for files of which there are more with every command and every page.
var many = []struct{ pattern, name string }{
	{`(/man1/crio-erofs)-[a-z-]+\.1`, "$1-*.1"},
	{`(/man8/crio-erofs-hook)-[a-zA-Z-]+\.8`, "$1-*.8"},
	{`(/share/doc/crio-erofs/docs/)[a-zA-Z-]+\.(md|svg)`, "$1*.$2"},
	{`(/share/crio-erofs/)([abd-z]|cr?[^r]).*`, "$1**"}, // samples; only crio.conf.d matters here
}

// compare compares a list with the one in testdata, the last word on what is installed.
func compare(t *testing.T, name string, lines []string) {
	t.Helper()
	for i := range lines {
		for _, m := range many {
			lines[i] = regexp.MustCompile(m.pattern).ReplaceAllString(lines[i], m.name)
		}
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(strings.Fields(a)[2], strings.Fields(b)[2]) })
	got := strings.Join(slices.Compact(lines), "\n") + "\n"
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(got) {
		if !strings.Contains("\n"+string(want), "\n"+line) {
			t.Errorf("%s is installed, and not in %s (go test ./test/packages -update writes it)", line, path)
		}
	}
	for line := range strings.Lines(string(want)) {
		if !strings.Contains("\n"+got, "\n"+line) {
			t.Errorf("%s is in %s, and not installed", line, path)
		}
	}
}

// listDirectory lists the files and links below a directory.
func listDirectory(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if target, err = os.Readlink(path); err != nil {
				return err
			}
		}
		stat := info.Sys().(*syscall.Stat_t)
		lines = append(lines, entry(info.Mode(), fmt.Sprintf("%d:%d", stat.Uid, stat.Gid), strings.TrimPrefix(path, dir),
			target, false))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// listDeb lists what is in a Debian package.
func listDeb(t *testing.T, path string) []string {
	t.Helper()
	var conffiles []string
	control := tarOf(t, "--ctrl-tarfile", path)
	readTar(t, control, func(h *tar.Header, content io.Reader) {
		if h.Name == "./conffiles" {
			b, err := io.ReadAll(content)
			if err != nil {
				t.Fatal(err)
			}
			conffiles = strings.Fields(string(b))
		}
	})
	var lines []string
	readTar(t, tarOf(t, "--fsys-tarfile", path), func(h *tar.Header, _ io.Reader) {
		name := strings.TrimPrefix(h.Name, ".")
		if h.Typeflag != tar.TypeDir {
			lines = append(lines, entry(h.FileInfo().Mode(), h.Uname+":"+h.Gname, name, h.Linkname,
				slices.Contains(conffiles, name)))
		}
	})
	return lines
}

// tarOf returns a part of a Debian package.
func tarOf(t *testing.T, part, path string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "dpkg-deb", part, path).Output()
	if err != nil {
		t.Fatalf("dpkg-deb %s %s: %v", part, path, err)
	}
	return out
}

func readTar(t *testing.T, content []byte, use func(*tar.Header, io.Reader)) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(content))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		use(h, r)
	}
}

// listRPM lists what is in an RPM package.
func listRPM(t *testing.T, path string) []string {
	t.Helper()
	out := run(t, "rpm", "-qp", "--qf",
		`[%{FILEMODES:octal}\t%{FILEUSERNAME}:%{FILEGROUPNAME}\t%{FILENAMES}\t%{FILELINKTOS}\t%{FILEFLAGS:fflags}\n]`, path)
	var lines []string
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 5 {
			t.Fatalf("rpm prints %q", line)
		}
		var mode uint32
		if _, err := fmt.Sscanf(f[0], "%o", &mode); err != nil {
			t.Fatal(err)
		}
		if mode&syscall.S_IFMT == syscall.S_IFDIR {
			continue
		}
		fileMode := fs.FileMode(mode & 0o777)
		if mode&syscall.S_IFMT == syscall.S_IFLNK {
			fileMode |= fs.ModeSymlink
		}
		lines = append(lines, entry(fileMode, f[1], f[2], f[3], f[4] == "cn")) // configuration, noreplace
	}
	return lines
}

// TestContents compares files, owners, modes and configuration of all packages with the lists in testdata.
func TestContents(t *testing.T) {
	for _, name := range []string{"crio-erofs", "cri-o-erofs"} {
		deb := packageFile(t, name+".deb")
		compare(t, name+".deb.txt", listDeb(t, deb))
		compare(t, name+".rpm.txt", listRPM(t, packageFile(t, name+".rpm")))
	}
}
