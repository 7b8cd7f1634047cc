package images

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sparseDir is where writeOdd leaves what becomes a layer of its own: in formatGNU a sparse file looks different.
const sparseDir = "opt/sparse"

// writeOdd fills a layer with all that a converter can get wrong.
func writeOdd(root string) error {
	for _, write := range []func(string) error{
		writeNames, writeLinks, writeModes, writeDevices, writeXattrs, writeTimes, writeSparse,
	} {
		if err := write(filepath.Join(root, "opt")); err != nil {
			return err
		}
	}
	return nil
}

// writeNames has names over 100 bytes (ustar's limit), paths over 255 bytes, and bytes beyond ASCII.
func writeNames(opt string) error {
	deep := strings.TrimSuffix(strings.Repeat(strings.Repeat("d", 100)+"/", 6), "/")
	files := map[string]string{
		"names/" + strings.Repeat("n", 255):           "255 bytes, the most that Linux allows\n",
		"names/" + strings.Repeat("m", 101):           "one more than a ustar header has room for\n",
		"names/" + deep + "/file":                     "a path of more than 600 bytes\n",
		"names/Ünïcode-\u65e5\u672c\u8a9e-\U0001f4e6": "composed\n",
		"names/u\u0308nicode":                         "decomposed\n",
		"names/latin1-\xe9\xff":                       "not UTF-8\n",
		"names/new\nline and space":                   "control characters\n",
		"names/-rf":                                   "looks like an option\n",
		"names/..dots":                                "not a parent\n",
		"names/empty":                                 "",
		"names/block":                                 strings.Repeat("b", 4096),
		"names/block-and-one":                         strings.Repeat("c", 4097),
		"names/wh":                                    "no whiteout\n",
		"names/" + strings.Repeat("\u00e9", 120):      "240 bytes of UTF-8\n",
		"names/pax\u65e5" + strings.Repeat("p", 200) + "/" + "f=ile": "an equals sign in a PAX record\n",
	}
	for i := range 3000 { // a folder of many blocks
		files[fmt.Sprintf("many/file-%04d", i)] = ""
	}
	return writeTree(opt, files)
}

func writeLinks(opt string) error {
	dir := filepath.Join(opt, "links")
	if err := writeTree(dir, map[string]string{"first": "three names, one file\n", "sub/empty": ""}); err != nil {
		return err
	}
	for _, l := range [][2]string{{"first", "a-second"}, {"first", "sub/third"}, {"sub/empty", "empty-too"}} {
		if err := os.Link(filepath.Join(dir, l[0]), filepath.Join(dir, l[1])); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{
		"dangling": "/no/such/file", "absolute": "/etc/passwd", "upwards": "../../../../../etc",
		"long": strings.Repeat("t/", 1000) + "end", "loop": "loop",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return os.Lchown(filepath.Join(dir, "dangling"), 1234, 4321)
}

func writeModes(opt string) error {
	for _, f := range []struct {
		name     string
		mode     uint32
		uid, gid int
	}{
		{"setuid", 0o4755, 0, 0}, {"setgid", 0o2755, 0, 50}, {"sticky", 0o1666, 0, 0}, {"none", 0, 0, 0},
		{"uid16", 0o644, 65534, 65534}, {"uid21", 0o640, 1 << 21, 1<<21 + 1}, {"uid32", 0o600, 1<<31 - 2, 1<<31 - 3},
	} {
		if err := writeTree(opt, map[string]string{"modes/" + f.name: f.name}); err != nil {
			return err
		}
		path := filepath.Join(opt, "modes", f.name)
		if err := os.Chown(path, f.uid, f.gid); err != nil { // before the mode: it clears setuid
			return err
		}
		if err := unix.Chmod(path, f.mode); err != nil {
			return err
		}
	}
	return unix.Chmod(filepath.Join(opt, "modes"), 0o3775)
}

func writeDevices(opt string) error {
	dir := filepath.Join(opt, "devices")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, d := range []struct {
		name  string
		mode  uint32
		major uint32
		minor uint32
	}{
		{"null", unix.S_IFCHR | 0o666, 1, 3}, {"nbd5", unix.S_IFBLK | 0o660, 43, 5},
		{"wide", unix.S_IFCHR | 0o600, 4095, 1<<20 - 1}, {"fifo", unix.S_IFIFO | 0o622, 0, 0},
	} {
		path := filepath.Join(dir, d.name)
		if err := unix.Mknod(path, d.mode, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("mknod %s: %w", path, err)
		}
		if err := unix.Chmod(path, d.mode&0o7777); err != nil { // whatever the umask is
			return err
		}
	}
	return nil
}

// writeXattrs has a file capability, POSIX ACLs and values that are binary, empty and large.
func writeXattrs(opt string) error {
	dir := filepath.Join(opt, "xattrs")
	if err := writeTree(dir, map[string]string{"file": "f", "capable": "c", "acl": "a", "sub/file": "s"}); err != nil {
		return err
	}
	// struct vfs_cap_data of <linux/capability.h>: revision 2 with the effective bit, cap_net_raw (13) permitted.
	raw := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	// posix_acl_xattr_header and entries of <linux/posix_acl_xattr.h>: user::rw-, user:1000:r--, group::r--, mask::r--,
	// other::r--.
	acl := "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe8\x03\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff"
	for _, x := range [][3]string{
		{"capable", "security.capability", raw},
		{"acl", "system.posix_acl_access", acl},
		{"file", "user.text", "value"}, {"file", "user.binary", "a\x00b\xff\n="}, {"file", "user.empty", ""},
		{"file", "user.large", strings.Repeat("x", 3000)}, {"sub", "user.on-folder", "1"},
		{"sub/file", "user.text", "value"}, // equal to another's: may be shared
		{"file", "trusted.test", "root's own"},
	} {
		if err := unix.Lsetxattr(filepath.Join(dir, x[0]), x[1], []byte(x[2]), 0); err != nil {
			return fmt.Errorf("%s of %s: %w", x[1], x[0], err)
		}
	}
	return nil
}

// writeTimes has fractions of a second, times before 1970 and beyond what 32 bits hold.
func writeTimes(opt string) error {
	for name, t := range map[string]time.Time{
		"fraction": time.Unix(1700000000, 123456789), "epoch": time.Unix(0, 0),
		"before": time.Unix(-86400, 0), "late": time.Unix(1<<32+1, 0),
	} {
		if err := writeTree(opt, map[string]string{"times/" + name: ""}); err != nil {
			return err
		}
		if err := os.Chtimes(filepath.Join(opt, "times", name), t, t); err != nil {
			return err
		}
	}
	return nil
}

// sparseSize is over 4 GiB: more than 32 bits can say.
const sparseSize = 5<<30 + 12345

// writeSparse has one large file with data at its start, across the 4 GiB line and at its end.
func writeSparse(opt string) error {
	for _, name := range []string{"big", "sparse/opt/big-gnu"} {
		path := filepath.Join(opt, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := f.Truncate(sparseSize); err != nil {
			return err
		}
		for _, at := range []int64{0, 1<<32 - 5, sparseSize - 7} {
			if _, err := f.WriteAt([]byte("island\n"), at); err != nil {
				return err
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}
