package volume_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"

	"github.com/crio-erofs/crio-erofs/driver/erofs"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// TestEqualFiles has files that are equal, and files that nearly are.
func TestEqualFiles(t *testing.T) {
	x, y := strings.Repeat("x", 5000), strings.Repeat("x", 4999)+"y"
	limit := strings.Repeat("0123456789abcdef", erofs.MaxShared/16)
	for name, tt := range map[string]struct {
		entries []entry
		blocks  int // of file data
	}{
		"equal":                     {[]entry{file("a", x), file("d/b", x), file("c", x)}, 2},
		"equal in turn":             {[]entry{file("a", x), file("b", y), file("c", x), file("d", y)}, 4},
		"of one size":               {[]entry{file("a", x), file("b", y)}, 4},
		"of one block, two sizes":   {[]entry{file("a", "x"), file("b", "x\x00")}, 2},
		"beginning of another":      {[]entry{file("a", x), file("b", x[:4096])}, 3},
		"empty":                     {[]entry{file("a", ""), file("b", "")}, 0},
		"empty and a zero":          {[]entry{file("a", ""), file("b", "\x00")}, 1},
		"zeros":                     {[]entry{file("a", zeros(8192)), file("b", zeros(8192)), file("c", zeros(8191))}, 4},
		"as large as may be":        {[]entry{file("a", limit), file("b", limit)}, 16},
		"too large":                 {[]entry{file("a", limit+"x"), file("b", limit+"x")}, 34},
		"too large and its start":   {[]entry{file("a", limit+"x"), file("b", limit)}, 33},
		"equal to a replaced one":   {[]entry{file("f", x), file("f", "new"), file("g", x)}, 3},
		"replaced by an equal one":  {[]entry{file("f", x), file("f", x)}, 2},
		"with hard links":           {[]entry{file("a", x), hardlink("b", "a"), file("c", x), hardlink("d", "c")}, 2},
		"other owners":              {[]entry{file("a", x), withOwner(withMode(file("b", x), 0o4755), 77)}, 2},
		"far apart":                 {[]entry{file("a", x), file("b", limit+zeros(20<<20)), file("c", x)}, 2 + 16 + 5120},
		"zeros, and nothing behind": {[]entry{file("a", zeros(65536)), file("b", zeros(20<<20)), file("c", zeros(65536))}, 16 + 5120},
		"across chunks":             {twice(400), 3 * 400},
	} {
		t.Run(name, func(t *testing.T) {
			sameImages(t, makeTar(t, tt.entries...), tt.entries, tt.blocks)
		})
	}
}

func zeros(n int) string { return strings.Repeat("\x00", n) }

func withOwner(e entry, uid int) entry { e.Uid = uid; return e }

// twice returns n files of three blocks, and equal ones in the same order: whatever the size of the pieces in which they
// are written, some are in two, and some in memory when they are looked at and some not.
func twice(n int) (entries []entry) {
	for i := range 2 * n {
		entries = append(entries, file(fmt.Sprint(i), strings.Repeat(fmt.Sprintf("%05d", i%n), 2000)))
	}
	return entries
}

// TestEqualSparse has a file in pieces that is equal to one in one piece.
func TestEqualSparse(t *testing.T) {
	plain := file("f", zeros(4999)+"x")
	sparse := plain
	sparse.Name = "s"
	for _, layer := range [][]byte{
		append(sparseEntry("s", 5000), makeTar(t, plain)...),
		append(bytes.TrimSuffix(makeTar(t, plain), twoZeroBlocks), append(sparseEntry("s", 5000), twoZeroBlocks...)...),
	} {
		sameImages(t, layer, []entry{plain, sparse}, 2)
	}
}

// TestEqualRandom has files of few contents, and an own idea of what is equal.
func TestEqualRandom(t *testing.T) {
	for seed := range uint64(5) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var entries []entry
		blocks, seen := 0, map[string]bool{}
		for i := range 60 + rng.IntN(100) {
			data := strings.Repeat(string("ab\x00"[rng.IntN(3)]), rng.IntN(4)*(4096<<rng.IntN(6))+rng.IntN(3))
			entries = append(entries, file(fmt.Sprint("f", i), data))
			if len(data) > erofs.MaxShared || !seen[data] {
				blocks += (len(data) + 4095) / 4096
			}
			seen[data] = true
		}
		old := runtime.GOMAXPROCS(1 + int(seed%4))
		sameImages(t, makeTar(t, entries...), entries, blocks)
		runtime.GOMAXPROCS(old)
	}
}

// sameImages makes volumes of a layer, with and without a tree, measures both, and reads the last entry of each name. Of
// file data there are to be so many blocks.
func sameImages(t *testing.T, layer []byte, entries []entry, blocks int) {
	t.Helper()
	path, d, err := create(t, layer)
	if err != nil {
		t.Fatal(err)
	}
	without := filepath.Join(t.TempDir(), "without")
	plain, err := volume.Create(without, bytes.NewReader(layer), volume.BuildOptions{NoVerity: true})
	if err != nil {
		t.Fatal(err)
	}
	sameMeasured(t, bytes.NewReader(layer), volume.BuildOptions{NoVerity: true}, plain, nil)
	if read(t, path)[:plain.Size] != read(t, without) {
		t.Error("the image depends on whether there is a tree")
	}
	if d.FormatVersion != 2 || plain.FormatVersion != 2 {
		t.Errorf("format versions %d, %d", d.FormatVersion, plain.FormatVersion)
	}
	info, err := volume.Inspect(strings.NewReader(read(t, path)), d.Size)
	if err != nil {
		t.Fatal(err)
	}
	rootBlocks := len(entries) * 16 / 4096 // names and entries that found no place behind the root's inode
	if got := int(info.Image.MetaBlock) - 1; got < blocks || got > blocks+rootBlocks+1 {
		t.Errorf("%d blocks of file data, want %d", got, blocks)
	}
	run(t, "fsck.erofs", path)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := goerofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	readers := map[string]fs.FS{"go-erofs": img}
	if os.Geteuid() == 0 {
		readers["kernel"] = os.DirFS(tree.MountVolume(t, path))
	}
	want := map[string]string{}
	for _, e := range entries {
		if e.Linkname != "" {
			e.data = want[e.Linkname]
		}
		want[e.Name] = e.data
	}
	for by, r := range readers {
		for name, data := range want {
			if got, err := fs.ReadFile(r, name); err != nil || string(got) != data {
				t.Errorf("%s: %s has %d bytes, %v; want others, %d", by, name, len(got), err, len(data))
			}
		}
	}
}

// TestMergeEqualFiles merges layers in which files share blocks: those are in the image once, whichever of the files is
// left, and only if one is.
func TestMergeEqualFiles(t *testing.T) {
	x, y, z := strings.Repeat("x", 60000), strings.Repeat("y", 30000), strings.Repeat("z", 50000)
	tars := [][]byte{
		makeTar(t, file("a", x), file("b", x), file("c", y), file("d", z), file("e", z), file("f", x)),
		makeTar(t, file(".wh.a", ""), file(".wh.d", ""), file(".wh.e", ""), file("g", y), file("h", y)),
	}
	for _, dir := range []string{xfs(t), t.TempDir()} {
		layers := layersOf(t, dir, tars...)
		image, stats := merge(t, dir, layers)
		if got, want := stats.SharedBytes+stats.CopiedBytes, int64(15+8+8)*4096; got != want {
			t.Errorf("%d bytes of file data, want %d", got, want)
		}
		run(t, "fsck.erofs", image)
		sameAsOverlay(t, image, layers)
	}
	sameMeasuredImage(t, tars...)
}
