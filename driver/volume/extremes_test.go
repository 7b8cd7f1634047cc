package volume_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// mountBoth makes a volume of each layout and has check look at each, mounted.
func mountBoth(t *testing.T, layer []byte, check func(t *testing.T, root string)) {
	for _, layout := range volume.Layouts {
		t.Run(string(layout), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "v")
			if _, err := volume.Create(path, bytes.NewReader(layer), volume.BuildOptions{Layout: layout}); err != nil {
				t.Fatal(err)
			}
			check(t, tree.MountVolume(t, path))
		})
	}
}

// TestManyLinks has more links to a file, and more directories in one, than 16 bits can count.
func TestManyLinks(t *testing.T) {
	const n = 66000
	entries := []entry{file("f", "data"), dir("d")}
	for i := range n {
		entries = append(entries, hardlink(fmt.Sprint("l", i), "f"), dir(fmt.Sprint("d/", i)))
	}
	mountBoth(t, makeTar(t, entries...), func(t *testing.T, root string) {
		for name, want := range map[string]uint64{"f": n + 1, "l65999": n + 1, "d": n + 2} {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(root, name), &st); err != nil || uint64(st.Nlink) != want {
				t.Errorf("%s has %d links, %v; want %d", name, st.Nlink, err, want)
			}
		}
		if got := len(names(t, root, "d")); got != n {
			t.Errorf("d has %d entries, want %d", got, n)
		}
	})
}

// TestTimes has the first and the last second that a tar can name.
func TestTimes(t *testing.T) {
	times := map[string]time.Time{
		"last": time.Unix(math.MaxInt64, 999999999), "first": time.Unix(math.MinInt64, 0), "year-10000": time.Unix(1<<38, 1),
		"before-1970": time.Unix(-1, 5e8),
	}
	var entries []entry
	for name, at := range times {
		e := file(name, "x")
		e.ModTime, e.Format = at, tar.FormatPAX
		entries = append(entries, e)
	}
	mountBoth(t, makeTar(t, entries...), func(t *testing.T, root string) {
		for name, at := range times {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(root, name), &st); err != nil || st.Mtim.Sec != at.Unix() || st.Mtim.Nsec != int64(at.Nanosecond()) {
				t.Errorf("%s has time %+v, %v; want %d, %d", name, st.Mtim, err, at.Unix(), at.Nanosecond())
			}
		}
	})
}

// TestLargeXattrs has as much of extended attributes as an inode can have, on everything that can have them.
func TestLargeXattrs(t *testing.T) {
	want := map[string]string{}
	var entries []entry
	for _, e := range []entry{dir("./"), dir("d"), file("f", strings.Repeat("x", 5000)), file("empty", ""), symlink("l", strings.Repeat("t", 4000)), charDevice("c", 1, 3)} {
		e.Format, e.PAXRecords = tar.FormatPAX, map[string]string{}
		for i := range 4 {
			name, value := fmt.Sprint("trusted.", i), strings.Repeat(fmt.Sprint(i), 65000)
			want[name], e.PAXRecords["SCHILY.xattr."+name] = value, value
		}
		entries = append(entries, e, file(e.Name+"-next", "y"))
	}
	entries = append(entries[:1], entries[2:]...) // nothing is named "./-next"
	mountBoth(t, makeTar(t, entries...), func(t *testing.T, root string) {
		got, err := tree.Read(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{".", "d", "f", "empty", "l", "c"} {
			if len(got[path].Xattrs) != len(want) {
				t.Errorf("%s has %d attributes", path, len(got[path].Xattrs))
			}
			for name, value := range want {
				if got[path].Xattrs[name] != value {
					t.Errorf("%s: %s is %d bytes", path, name, len(got[path].Xattrs[name]))
				}
			}
		}
		if got["l"].Target != strings.Repeat("t", 4000) {
			t.Errorf("the link's target has %d bytes", len(got["l"].Target))
		}
	})
}

// TestLongNames has names of 255 bytes of every value that a name can have.
func TestLongNames(t *testing.T) {
	var entries []entry
	var want []string
	for c := 1; c < 256; c++ {
		if c != '/' {
			name := strings.Repeat(string([]byte{byte(c)}), 255)
			entries, want = append(entries, file("d/"+name, "x")), append(want, name)
		}
	}
	mountBoth(t, makeTar(t, entries...), func(t *testing.T, root string) {
		wantNames(t, filepath.Join(root, "d"), want...)
		for _, name := range want { // the kernel's search depends on the order
			if _, err := os.Lstat(filepath.Join(root, "d", name)); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestOwnersBeyond32Bits has the owners that some programs write. containers/storage hands them to lchown(2), which
// takes the lower 32 bits.
func TestOwnersBeyond32Bits(t *testing.T) {
	ids := map[string]struct {
		in   int
		want uint32
	}{
		"nobody": {-2, math.MaxUint32 - 1}, "minus-one": {-1, 0}, "large": {1<<33 + 5, 5}, "no-change": {math.MaxUint32, 0},
	}
	var entries []entry
	for name, id := range ids {
		e := file(name, "x")
		e.Uid, e.Gid, e.Format = id.in, id.in, tar.FormatGNU
		entries = append(entries, e)
	}
	mountBoth(t, makeTar(t, entries...), func(t *testing.T, root string) {
		for name, id := range ids {
			var st syscall.Stat_t
			if err := syscall.Lstat(filepath.Join(root, name), &st); err != nil || st.Uid != id.want || st.Gid != id.want {
				t.Errorf("%s has owner %d:%d, %v; want %d", name, st.Uid, st.Gid, err, id.want)
			}
		}
	})
}

// TestSizeLimits has files that no image has blocks for. They must be refused by their headers: nobody has the data.
func TestSizeLimits(t *testing.T) {
	for _, c := range []struct {
		layout volume.Layout
		size   int64
		want   string
	}{
		{volume.LayoutAligned, 1 << 44, "16 TiB"},
		{volume.LayoutAligned, math.MaxInt64, "16 TiB"},
		{volume.LayoutTarfs, 1 << 41, "2 TiB"},
		{volume.LayoutTarfs, math.MaxInt64, "2 TiB"},
		{volume.LayoutAligned, 1 << 43, "truncated"}, // there would be room
		{volume.LayoutTarfs, 1 << 40, "truncated"},
	} {
		var layer bytes.Buffer
		err := tar.NewWriter(&layer).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: c.size, Format: tar.FormatGNU})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		_, err = volume.Create(filepath.Join(dir, "v"), &layer, volume.BuildOptions{Layout: c.layout})
		if err == nil || !strings.Contains(err.Error(), `"f"`) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %d bytes: %v, want %q", c.layout, c.size, err, c.want)
		}
		wantNames(t, dir)
	}
}
