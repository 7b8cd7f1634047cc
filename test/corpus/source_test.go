package corpus_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/tree"
)

// limits are lengths around everything that a tar header bounds: 100 bytes for names and targets, 155 for prefixes, 255
// for a path made of both and for a file's name.
var limits = []int{99, 100, 101, 154, 155, 156, 157, 255, 256, 257}

// pathOf returns a path of n bytes whose last slash stands as far left or right as it may.
func pathOf(n int, right bool) string {
	const short = 3 // "d/" and a letter
	long := min(n-short+1, 200)
	if right {
		p := strings.Repeat("d", long)
		for len(p) < n-2 {
			p += "/" + strings.Repeat("e", min(n-len(p)-3, 150))
		}
		return p + "/" + strings.Repeat("f", n-len(p)-1)
	}
	p := "d"
	for n-len(p)-1 > 255 {
		p += "/" + strings.Repeat("g", 10)
	}
	return p + "/" + strings.Repeat("h", n-len(p)-1)
}

// makeNames fills a folder with names, targets and links around the limits.
func makeNames(t *testing.T, dir string) {
	t.Helper()
	do := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	for _, n := range limits {
		for _, right := range []bool{false, true} {
			path := filepath.Join(dir, pathOf(n, right))
			do(os.MkdirAll(filepath.Dir(path), 0o755))
			do(os.WriteFile(path, fmt.Appendf(nil, "a path of %d bytes", n), 0o644))
			do(os.Link(path, filepath.Join(dir, fmt.Sprintf("hard-%d-%v", n, right))))
			do(os.Symlink(pathOf(n, right), filepath.Join(dir, fmt.Sprintf("soft-%d-%v", n, right))))
		}
		if n <= 255 {
			do(os.Mkdir(filepath.Join(dir, strings.Repeat("m", n)), 0o711)) // with the slash behind it: n+1
			do(os.Symlink(".", filepath.Join(dir, strings.Repeat("n", n)))) // a long name for a short target
		}
	}
	for i, name := range []string{
		"latin1-\xe4\xff", "new\nline", "tab\t", `back\slash`, "ünïcödé-文件", "-rf", "*", "\x01\x7f",
	} {
		do(os.WriteFile(filepath.Join(dir, name), fmt.Appendf(nil, "%d", i), 0o600))
		do(os.Symlink(name, filepath.Join(dir, "to-"+name)))
	}
}

// makeKinds fills a folder with every kind of file, and attributes.
func makeKinds(t *testing.T, dir string) {
	t.Helper()
	cmd := command("bash", "-ec", `
umask 022
mkdir -p dir/empty dir/sub links; echo hello > dir/file; : > empty; head -c 70000 /dev/urandom > large
mkfifo fifo; mknod char c 1 3; mknod big-char c 4095 1048575; mknod block b 7 300; mknod zero b 0 5
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
echo one > links/b; ln links/b links/a; ln links/b dir/z; ln links/b z-last; ln links/b 0-first
ln -s nowhere links/soft; ln links/soft links/hard-to-soft; ln fifo links/fifo; ln char links/char; ln empty links/empty
echo id > setid; chmod 6755 setid; chmod 2770 dir; chmod 1777 links; chmod 000 empty; chmod 7777 dir/sub
chown 2097151:2097151 dir/file; chown 2097152:2097152 large; chown 4294967294:4294967294 empty; chown -h 5:6 links/soft
truncate -s 1M hole; printf middle >> hole; truncate -s 3M hole; truncate -s 5M all-hole
echo start > end-hole; truncate -s 64K end-hole
for i in $(seq 0 40); do printf x | dd of=many-holes bs=1 seek=$((i * 65536)) conv=notrunc status=none; done
setfattr -n user.one -v 1 dir; setfattr -n user.empty dir/file; setfattr -n user.blob -v 0x00ff0a3d00 large
setfattr -n trusted.t -v "$(head -c 2000 /dev/zero | tr '\0' v)" large
setfattr -n "user.dots.and_UNDER-scores" -v e dir/sub
setcap cap_net_raw+ep large
setfacl -m u:1234:rwx,g:70000:r dir/file; setfacl -d -m u:5:rx dir/empty
touch -d '2001-09-09 01:46:40.123456789' dir/file; touch -d '1969-12-31 23:59:58.5' large; touch -d '1901-12-31' empty
touch -h -d '1970-01-01 00:00:00.000000001' links/soft; touch -d '2106-02-07 06:28:17.25' hole
touch -d '2242-03-16 12:56:33' fifo
touch -d '2020-05-05 05:05:05.999999999' dir links`)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make files: %v: %s", err, out)
	}
}

// source makes a folder with all of that.
func source(t *testing.T) string {
	t.Helper()
	tree.RequireRoot(t)
	for _, tool := range []string{"bash", "python3", "setfattr", "setfacl", "setcap"} {
		tree.RequireTool(t, tool)
	}
	dir := t.TempDir()
	for name, fill := range map[string]func(*testing.T, string){"kinds": makeKinds, "names": makeNames} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		fill(t, filepath.Join(dir, name))
	}
	// What has the present as its time gets one that no extraction makes up: see settle.
	run(t, "bash", "-c", `cd "$1" && find . -newermt 2026-01-01 ! -newermt 2100-01-01 -print0 |
		xargs -0 touch -h -d "2022-02-02 02:02:02"`, "-", dir)
	return dir
}
