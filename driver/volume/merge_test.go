package volume_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// layersOf makes a volume of each tar in dir, the lowest first.
func layersOf(t testing.TB, dir string, tars ...[]byte) []volume.Layer {
	t.Helper()
	var layers []volume.Layer
	for i, layer := range tars {
		path := filepath.Join(dir, fmt.Sprintf("layer%d.erofs", i))
		d, err := volume.Create(path, bytes.NewReader(layer), volume.BuildOptions{})
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		layers = append(layers, volume.Layer{File: f, RootHash: d.Verity.RootHash})
	}
	return layers
}

// merge merges layers to a file in dir and verifies the result.
func merge(t testing.TB, dir string, layers []volume.Layer) (string, *volume.MergeStats) {
	t.Helper()
	path := filepath.Join(dir, "image.erofs")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	d, stats, err := volume.Merge(context.Background(), out, layers)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := volume.Verify(context.Background(), out, d.Size, d.Verity.RootHash, nil); err != nil {
		t.Fatalf("the merged volume does not verify: %v", err)
	}
	return path, stats
}

// sameAsOverlay compares a merged volume with an overlay of its layers, entry for entry.
func sameAsOverlay(t *testing.T, image string, layers []volume.Layer) {
	t.Helper()
	var lower []string
	for _, l := range slices.Backward(layers) {
		lower = append(lower, tree.MountVolume(t, l.File.Name()))
	}
	want, err := tree.Read(tree.MountOverlay(t, lower...))
	if err != nil {
		t.Fatal(err)
	}
	got, err := tree.Read(tree.MountVolume(t, image))
	if err != nil {
		t.Fatal(err)
	}
	// An overlay counts links as the layer has them, for directories not at all.
	for path, e := range want {
		e.Links = got[path].Links
		want[path] = e
	}
	for _, line := range tree.Diff(want, got, nil) {
		t.Error(line)
	}
}

// xfs makes a file system that can share blocks.
func xfs(t testing.TB) string {
	t.Helper()
	tree.RequireTool(t, "mkfs.xfs")
	return tree.FileSystem(t, 400<<20, "mkfs.xfs", "-q", "-m", "reflink=1")
}

var mergeCases = map[string][][]entry{
	"one layer":            {{file("f", "1"), dir("d"), file(".wh.x", ""), file("d/.wh..wh..opq", "")}},
	"nothing in common":    {{file("a", "1")}, {file("b", "2")}, {file("c/d", "3")}},
	"replaced":             {{file("f", "old"), dir("d"), symlink("l", "f")}, {file("f", "new"), file("d", "file"), dir("l")}},
	"deleted":              {{file("f", "1"), file("d/a", "2"), file("d/b", "3")}, {file(".wh.f", ""), file("d/.wh.a", "")}, {file("f", "back")}},
	"deleted directory":    {{file("d/a", "1"), file("d/e/b", "2")}, {file(".wh.d", "")}, {file("d/c", "3")}},
	"opaque":               {{file("d/a", "1"), file("d/e/b", "2")}, {dir("d"), file("d/.wh..wh..opq", ""), file("d/e/c", "3")}, {file("d/f", "4")}},
	"opaque at once":       {{file("d/a", "1")}, {file(".wh.d", ""), dir("d"), file("d/b", "2")}},
	"metadata":             {{dir("d"), file("d/f", "1")}, {withMode(dir("d"), 0o711), withMode(dir("./"), 0o700)}},
	"hard links":           {{file("a", "1"), hardlink("b", "a"), hardlink("c", "a")}, {file(".wh.b", ""), file("x", "2"), hardlink("c", "x")}},
	"equal files":          {{file("a", "1"), file("b", "1"), file("c", "2")}, {file(".wh.a", ""), file("d", "1"), file("c", "1")}},
	"device":               {{file("d/null", "x")}, {withMode(charDevice("d/null", 1, 3), 0o666)}},
	"empty layers":         {{}, {file("a", "1")}, {}},
	"names around the dot": {{file("!", "1"), file("-", "2"), file("+x", "3"), file("0", "4")}, {file(".hidden", "5"), file(".wh.-", "")}},
}

func withMode(e entry, mode int64) entry { e.Mode = mode; return e }

func TestMerge(t *testing.T) {
	for name, layers := range mergeCases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var tars [][]byte
			for _, l := range layers {
				tars = append(tars, makeTar(t, l...))
			}
			volumes := layersOf(t, dir, tars...)
			image, stats := merge(t, dir, volumes)
			run(t, "fsck.erofs", image)
			sameAsOverlay(t, image, volumes)
			if stats.CopiedBytes != 0 && stats.SharedBytes != 0 {
				t.Errorf("%+v: one file system cannot do both", stats)
			}
		})
	}
}

// TestMergeRandom merges random layers; the seed of a failure is in its name.
func TestMergeRandom(t *testing.T) {
	tree.RequireRoot(t)
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			dir := t.TempDir()
			var tars [][]byte
			for range 1 + rng.IntN(6) {
				tars = append(tars, randomLayer(t, rng))
			}
			volumes := layersOf(t, dir, tars...)
			image, _ := merge(t, dir, volumes)
			sameAsOverlay(t, image, volumes)
		})
	}
}

// randomLayer has few names, so that layers have much to do with each other. A whiteout stands only where a lower layer
// may have something: an overlay shows those in directories of its own (fs/overlayfs/readdir.c, ovl_dir_is_real), and
// nobody makes them.
func randomLayer(t testing.TB, rng *rand.Rand) []byte {
	var entries []entry
	names := []string{"a", "b", "c"}
	random := func() string {
		path := names[rng.IntN(len(names))]
		for range rng.IntN(3) {
			path += "/" + names[rng.IntN(len(names))]
		}
		return path
	}
	made := map[string]byte{}
	free := func(path string) bool { // neither it nor what is above or below it is made by this layer as something else
		for other, kind := range made {
			if other == path || strings.HasPrefix(other, path+"/") || strings.HasPrefix(path, other+"/") && kind != 'd' {
				return false
			}
		}
		return true
	}
	for range rng.IntN(12) {
		path := random()
		if !free(path) {
			continue
		}
		switch kind := "fffddwlo"[rng.IntN(8)]; kind {
		case 'f':
			entries = append(entries, file(path, strings.Repeat(names[rng.IntN(2)], rng.IntN(3)*5000)))
			made[path] = 'f'
		case 'd', 'o':
			entries = append(entries, withMode(dir(path), int64(0o700+rng.IntN(64))))
			if kind == 'o' {
				entries = append(entries, file(path+"/.wh..wh..opq", ""))
			}
			made[path] = 'd'
		case 'l':
			entries = append(entries, symlink(path, fmt.Sprint("to-", rng.IntN(9))))
			made[path] = 'l'
		case 'w':
			if !strings.Contains(path, "/") { // the root is in every layer
				entries = append(entries, file(".wh."+path, ""))
				made[path] = 'w'
			}
		}
	}
	return makeTar(t, entries...)
}

// TestMergeShares merges on XFS: nothing is copied, and the layers' blocks are used twice.
func TestMergeShares(t *testing.T) {
	dir := xfs(t)
	data := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
	layers := layersOf(t, dir, makeTar(t, file("a", data), file("gone", data), file("b", data)),
		makeTar(t, file("c", data), file(".wh.gone", "")))
	before := freeBytes(t, dir)
	image, stats := merge(t, dir, layers)
	if used := before - freeBytes(t, dir); used > 1<<20 {
		t.Errorf("merging used %d bytes", used)
	}
	if stats.CopiedBytes != 0 || stats.SharedBytes != 3*4<<20 {
		t.Errorf("%+v; want 12 MiB shared", stats)
	}
	sameAsOverlay(t, image, layers)
	other := t.TempDir() // on another file system
	copied, stats := merge(t, other, layers)
	if stats.SharedBytes != 0 || stats.CopiedBytes != 3*4<<20 {
		t.Errorf("%+v; want 12 MiB copied", stats)
	}
	if read(t, copied) != read(t, image) {
		t.Error("the volume depends on whether its data is shared")
	}
}

// TestMergeKeepsHoles merges a sparse file where blocks cannot be shared: neither time nor disk must go into its holes.
func TestMergeKeepsHoles(t *testing.T) {
	tree.RequireTool(t, "tar")
	src, dir := t.TempDir(), t.TempDir()
	run(t, "bash", "-c", `cd "$1" && truncate -s 600M f && printf x | dd of=f bs=1M seek=300 conv=notrunc status=none && printf end >> f`, "-", src)
	run(t, "tar", "--sparse", "-C", src, "-cf", filepath.Join(dir, "tar"), "f")
	layers := layersOf(t, dir, []byte(read(t, dir, "tar")), makeTar(t, file("g", "1")))
	image, stats := merge(t, dir, layers)
	if stats.CopiedBytes == 0 {
		t.Skip("this file system shares blocks")
	}
	var st syscall.Stat_t
	if err := syscall.Stat(image, &st); err != nil {
		t.Fatal(err)
	}
	if used := st.Blocks * 512; used > 20<<20 { // the tree takes 5 MiB
		t.Errorf("the merged volume takes %d bytes of disk", used)
	}
	compareRange(t, filepath.Join(src, "f"), filepath.Join(tree.MountVolume(t, image), "f"), 299<<20, 2<<20)
}

func freeBytes(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	syscall.Sync()
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bfree) * st.Bsize
}

// TestMergeDamaged damages what a merge reads of a layer: it must notice, or damage would get a valid tree.
func TestMergeDamaged(t *testing.T) {
	dir := t.TempDir()
	layers := layersOf(t, dir, makeTar(t, file("a", strings.Repeat("x", 300000))), makeTar(t, file("b", "2")))
	path := layers[0].File.Name()
	good := read(t, path)
	d, err := volume.Inspect(strings.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	for name, offset := range map[string]uint64{
		"superblock": 1024 + 20, "metadata": d.Verity.HashOffset - 4096, "inode": d.Verity.HashOffset - 4096 + 40,
		"tree": d.Verity.TreeOffset, "leaves": d.Verity.TreeOffset + 64,
	} {
		t.Run(name, func(t *testing.T) {
			bad := []byte(good)
			bad[offset] ^= 1
			if err := os.WriteFile(path, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := os.Create(filepath.Join(t.TempDir(), "v"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			if _, _, err := volume.Merge(context.Background(), out, layers); err == nil || !strings.Contains(err.Error(), path) && !strings.Contains(err.Error(), "layer 0") {
				t.Errorf("got %v", err)
			}
		})
	}
}
