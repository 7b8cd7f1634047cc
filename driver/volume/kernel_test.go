package volume_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// build makes a volume of a tar file and returns its path and description.
func build(t testing.TB, tarFile string, layout ...volume.Layout) (string, *volume.Description) {
	t.Helper()
	opts := volume.BuildOptions{}
	if len(layout) > 0 {
		opts.Layout = layout[0]
	}
	in, err := os.Open(tarFile)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	path := filepath.Join(t.TempDir(), volume.FileName)
	d, err := volume.Create(path, in, opts)
	if err != nil {
		t.Fatal(err)
	}
	return path, d
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// makeTree fills a directory with every kind of thing that a tar can hold.
func makeTree(t *testing.T) string {
	t.Helper()
	tree.RequireRoot(t)
	script := `
set -e
umask 022
mkdir -p dir/sub dir/empty "dir/sp ace" many
echo hello > dir/file; : > empty-file; echo x > dir/sub/x
printf 'no newline' > "dir/sp ace/tab	name"
echo ü > dir/ünïcödé-文件; touch "$(printf 'dir/latin1-\344')" "$(printf 'dir/new\nline')"
head -c 4096 /dev/urandom > block; head -c 4097 /dev/urandom > block+1; head -c 3000000 /dev/urandom > large
ln dir/file hard1; ln dir/file dir/sub/hard2
ln -s dir/file soft; ln -s /absolute/nowhere dangling; ln soft hard-to-soft
ln -s "$(head -c 3000 /dev/zero | tr '\0' a)" long-target; ln -s "$(head -c 4090 /dev/zero | tr '\0' b)" longest-target
mkfifo fifo; mknod char c 1 3; mknod big-char c 4095 1048575; mknod block-dev b 7 300; ln char char-hard
chmod 4755 block; chmod 2755 dir; chmod 1777 many; chmod 000 empty-file; chmod 640 hard1
chown 65535:65536 large; chown 4294967294:4294967294 block+1; chown -h 12:34 soft; chown 70000:5 dir/empty
for i in $(seq 1 700); do : > "many/file-with-quite-a-long-name-number-$i"; done
n=$(head -c 255 /dev/zero | tr '\0' n); echo long > "$n"
deep=.; for i in $(seq 1 15); do deep="$deep/$(head -c 200 /dev/zero | tr '\0' d)"; done; mkdir -p "$deep"; echo deep > "$deep/f"
setcap cap_net_raw+ep dir/sub/x
setfattr -n user.one -v 1 dir; setfattr -n user.empty dir/file; setfattr -n trusted.t -v "$(head -c 2000 /dev/zero | tr '\0' v)" large
setfattr -n user.blob -v 0x0001ff00 large; setfattr -n trusted.link -v l -h soft 2>/dev/null
setfattr -n user.bulk -v "$(head -c 3000 /dev/zero | tr '\0' x)" dir/sub
truncate -s 3M hole; printf end >> hole
find . -newermt 2000-01-01 -print0 | xargs -0 touch -h -d '2020-02-02 02:02:02'
touch -d '1969-12-31 23:59:58.5' block; touch -d '1901-01-01' hole; touch -h -d '2021-01-01 00:00:00.123456789' soft; touch -d '2100-01-01' dir/file
touch -d '2020-05-05 05:05:05.999999999' dir
`
	dir := t.TempDir()
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make tree: %v: %s", err, out)
	}
	return dir
}

// quirks are the files of makeTree that a program does not extract as the tar says. bsdtar leaves the time of the
// directory that it extracts to, and it writes 1.5 s before 1970 as -2.5, meaning -2+0.5, which POSIX does not.
var quirks = map[string]map[string]bool{"bsdtar": {".": true, "block": true}}

var gnuExtract = []string{"tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner"}

// TestKernelSeesWhatTarExtracts mounts volumes of tars in every format and compares them with an extraction by GNU tar.
func TestKernelSeesWhatTarExtracts(t *testing.T) {
	src := makeTree(t)
	for _, c := range []struct {
		name    string
		create  []string
		extract []string
	}{
		{"gnu", []string{"tar", "--format=gnu", "--sparse"}, gnuExtract},
		{"pax", []string{"tar", "--format=pax", "--xattrs", "--xattrs-include=*", "--acls"}, gnuExtract},
		{"pax-sparse-0.0", []string{"tar", "--format=pax", "--sparse", "--sparse-version=0.0"}, gnuExtract},
		{"pax-sparse-0.1", []string{"tar", "--format=pax", "--sparse", "--sparse-version=0.1"}, gnuExtract},
		{"pax-sparse-1.0", []string{"tar", "--format=pax", "--sparse", "--sparse-version=1.0", "--xattrs", "--xattrs-include=*"}, gnuExtract},
		{"bsdtar-pax", []string{"bsdtar", "--format=pax"}, []string{"bsdtar", "--numeric-owner"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree.RequireTool(t, c.create[0])
			tarFile := filepath.Join(t.TempDir(), "layer.tar")
			run(t, c.create[0], append(c.create[1:], "--numeric-owner", "-C", src, "-cf", tarFile, ".")...)
			for _, layout := range volume.Layouts {
				t.Run(string(layout), func(t *testing.T) {
					compareWithExtraction(t, tarFile, layout, c.extract, quirks[c.extract[0]])
				})
			}
		})
	}
}

// compareWithExtraction makes a volume, has independent programs check it, and compares what the kernel shows with
// what the program extracts.
func compareWithExtraction(t *testing.T, tarFile string, layout volume.Layout, extract []string, quirks map[string]bool) {
	t.Helper()
	path, d := build(t, tarFile, layout)
	in, err := os.Open(tarFile)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	sameMeasured(t, in, volume.BuildOptions{Layout: layout}, d, nil)
	if layout != volume.LayoutTarfs { // blocks of 512 bytes are beyond Debian 12's erofs-utils 1.5
		run(t, "fsck.erofs", path)
	}
	run(t, "veritysetup", "verify", path, path, d.Verity.RootHash, "--hash-offset", itoa(d.Verity.HashOffset))
	extracted := t.TempDir()
	run(t, extract[0], append(extract[1:], "-p", "-C", extracted, "-xf", tarFile)...)
	want, err := tree.Read(extracted)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tree.Read(tree.MountVolume(t, path))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range tree.Diff(want, got, func(path string) bool { return quirks[path] }) {
		t.Error(line)
	}
}

// TestDebianTree does the same with the machine's own documentation, headers and libraries: real files.
func TestDebianTree(t *testing.T) {
	tree.RequireRoot(t)
	tarFile := filepath.Join(t.TempDir(), "layer.tar")
	run(t, "tar", "--format=pax", "--xattrs", "--xattrs-include=*", "-C", "/usr", "-cf", tarFile,
		"share/zoneinfo", "share/perl", "include/linux", "sbin")
	path, _ := build(t, tarFile)
	run(t, "fsck.erofs", path)
	extracted := t.TempDir()
	run(t, "tar", "--xattrs", "--xattrs-include=*", "-p", "-C", extracted, "-xf", tarFile)
	want, err := tree.Read(extracted)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tree.Read(tree.MountVolume(t, path))
	if err != nil {
		t.Fatal(err)
	}
	// The tar has no entry for these, so nobody says what their times are: tar takes the present, a volume 1970.
	implied := map[string]bool{".": true, "share": true, "include": true}
	for _, line := range tree.Diff(want, got, func(path string) bool { return implied[path] }) {
		t.Error(line)
	}
}

// TestLargeSparseFile has a file of more than 4 GiB, which must cost neither that much disk nor time.
func TestLargeSparseFile(t *testing.T) {
	tree.RequireRoot(t)
	src, tarFile := t.TempDir(), filepath.Join(t.TempDir(), "layer.tar")
	const size = 5<<30 + 123
	run(t, "bash", "-c", `cd "$1" && truncate -s "$2" big && printf start | dd of=big conv=notrunc status=none &&
		printf middle | dd of=big conv=notrunc bs=1M seek=4500 status=none && printf end >> big && ls -l big`, "-", src, itoa(size-3))
	run(t, "tar", "--format=pax", "--sparse", "-C", src, "-cf", tarFile, ".")
	path, d := build(t, tarFile)
	if d.Size < size {
		t.Fatalf("volume of %d bytes", d.Size)
	}
	var used int64
	if out := strings.Fields(run(t, "du", "--block-size=1", path)); len(out) > 0 {
		used = atoi(t, out[0])
	}
	if most := int64(64 << 20); used > most { // the tree takes 40 MiB
		t.Errorf("volume uses %d bytes of disk, want at most %d", used, most)
	}
	dir := tree.MountVolume(t, path)
	for _, offset := range []int64{0, 4500<<20 - 4096, 4500 << 20, size - 8192} {
		compareRange(t, filepath.Join(src, "big"), filepath.Join(dir, "big"), offset, 8192)
	}
}

// compareRange compares a part of two files that are too large to read whole.
func compareRange(t *testing.T, want, got string, offset, n int64) {
	t.Helper()
	read := func(path string) string {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b, err := io.ReadAll(io.NewSectionReader(f, offset, n))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if w, g := read(want), read(got); w != g {
		t.Errorf("%s differs from %s within %d bytes at %d", got, want, n, offset)
	}
}
