package volume_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/erofs"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

var update = flag.Bool("update", false, "write the golden files anew: a changed byte is a new format version")

// goldenTar and goldenFile are a layer with one of everything, and the description of its volume.
const (
	goldenTar  = "testdata/golden.tar"
	goldenFile = "testdata/golden.json"
)

// TestGolden holds the volume of a layer in the repository against what earlier releases made of it. Root hashes are
// what users sign and what guests insist on: if this fails, either mend the code, or increase erofs.FormatVersion and
// run the test with -update.
func TestGolden(t *testing.T) {
	if _, err := os.Stat(goldenTar); *update && errors.Is(err, fs.ErrNotExist) {
		writeGoldenTar(t)
	}
	golden := map[string]*volume.Description{}
	layers := layersOf(t, t.TempDir(), []byte(read(t, goldenTar)), makeTar(t, file("dir/.wh.file", ""), file("new", "data")))
	for _, layout := range volume.Layouts {
		_, golden[string(layout)] = build(t, goldenTar, layout)
	}
	most := strings.Repeat("equal", erofs.MaxShared)[:erofs.MaxShared]
	var err error
	if _, golden["equal files"], err = create(t, makeTar(t, file("a", most), file("b", "data"), file("c", most),
		file("a", "data"), file("d", most+"x"), file("e", most+"x"))); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if golden["merged"], _, err = volume.Merge(t.Context(), out, layers); err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(golden, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(goldenFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := read(t, goldenFile); string(got) != want {
		t.Errorf("volumes of %s are\n%swant\n%s", goldenTar, got, want)
	}
}

// writeGoldenTar packs makeTree, with times of its own, so that the file can be made again by any GNU tar.
func writeGoldenTar(t *testing.T) {
	t.Helper()
	src := makeTree(t)
	run(t, "bash", "-c", `cd "$1" && rm -f block block+1 large longest-target many/*-[2-7]?? &&
		for i in 1 2 3 4 5 6 7 8; do seq $((i*1000)) > dir/seq$i; done && setfattr -n user.bulk -v b dir/sub &&
		find . -newermt 2025-01-01 -print0 | xargs -0 touch -h -d "2022-02-02 02:02:02"`, "-", src)
	run(t, "tar", "--format=pax", "--pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f", "--sort=name",
		"--sparse", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-C", src, "-cf", goldenTar, ".")
}

// TestDeterministic makes one volume under conditions that must not matter: other file systems, time zones, umasks,
// numbers of processors, chunks in which the tar arrives, and in another process.
func TestDeterministic(t *testing.T) {
	layer, err := os.ReadFile(goldenTar)
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := create(t, layer)
	if err != nil {
		t.Fatal(err)
	}
	same := func(name, path string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if read(t, path) != read(t, want) {
			t.Errorf("%s gives another volume", name)
		}
	}
	for _, procs := range []int{1, 2, 7} {
		old := runtime.GOMAXPROCS(procs)
		path, _, err := create(t, layer)
		runtime.GOMAXPROCS(old)
		same(fmt.Sprintf("GOMAXPROCS=%d", procs), path, err)
	}
	umask := syscall.Umask(0o077)
	path, _, err := create(t, layer)
	syscall.Umask(umask)
	same("umask 077", path, err)

	path = filepath.Join(t.TempDir(), "v")
	_, err = volume.Create(path, oneByteReader{bytes.NewReader(layer)}, volume.BuildOptions{})
	same("a slow pipe", path, err)

	shm, err := os.MkdirTemp("/dev/shm", "crio-erofs-test")
	if err != nil {
		t.Skipf("no tmpfs: %v", err)
	}
	defer os.RemoveAll(shm)
	path = filepath.Join(shm, "v")
	_, err = volume.Create(path, bytes.NewReader(layer), volume.BuildOptions{})
	same("tmpfs", path, err)
}

// oneByteReader gives a few bytes at a time, as a pipe may.
type oneByteReader struct{ r *bytes.Reader }

func (o oneByteReader) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 7)]) }

// TestCommandLine makes the golden volume with the program, in other time zones and from compressed layers, and reads
// what it prints.
func TestCommandLine(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "crio-erofs")
	run(t, "go", "build", "-o", bin, "github.com/crio-erofs/crio-erofs/cmd/crio-erofs")
	golden := map[string]volume.Description{}
	if err := json.Unmarshal([]byte(read(t, goldenFile)), &golden); err != nil {
		t.Fatal(err)
	}
	want := golden[string(volume.LayoutAligned)]
	out := filepath.Join(t.TempDir(), "v")
	for _, pipe := range []string{
		`"$1" build --format json "$2" "$3"`,
		`TZ=Asia/Kathmandu "$1" build --format json - "$3" < "$2"`,
		`umask 077; gzip -c "$2" | TZ=America/St_Johns "$1" build --format json - "$3"`,
		`zstd -qc "$2" | "$1" build --format json - "$3"`,
	} {
		var got struct {
			RootHash      string `json:"root_hash"`
			Layout        string
			FormatVersion int `json:"format_version"`
			Size          int64
			DataBlockSize uint32 `json:"data_block_size"`
			DataBlocks    uint64 `json:"data_blocks"`
			HashOffset    uint64 `json:"hash_offset"`
			DiffID        string `json:"diff_id"`
		}
		printed := run(t, "bash", "-c", pipe, "-", bin, goldenTar, out)
		if err := json.Unmarshal([]byte(printed), &got); err != nil {
			t.Fatalf("%s printed %q: %v", pipe, printed, err)
		}
		if got.RootHash != want.Verity.RootHash || got.DiffID != want.DiffID || got.Size != want.Size || got.Layout != "aligned" ||
			got.FormatVersion != 2 || got.DataBlockSize != 4096 || got.DataBlocks != want.Verity.DataBlocks || got.HashOffset != want.Verity.HashOffset {
			t.Errorf("%s printed %s, want %+v %+v", pipe, printed, want, want.Verity)
		}
	}
	run(t, bin, "verify", "--root-hash", want.Verity.RootHash, out)
	run(t, bin, "inspect", "--files", out)
	checkDamage(t, bin, out, want.Verity.RootHash)
	checkRefused(t, bin, want.DiffID)
}

// checkRefused has inputs that could pass for a layer, and wants nothing made of them.
func checkRefused(t *testing.T, bin, diffID string) {
	t.Helper()
	for pipe, want := range map[string]string{
		`"$1" build - "$3" < /dev/null`:                         "nothing to read",
		`head -c 2048 "$2" | "$1" build - "$3"`:                 "truncated",
		`head -c -1024 "$2" | "$1" build - "$3"`:                "truncated",
		`head -c -1024 "$2" | "$1" build --diff-id "$4" - "$3"`: "not " + diffID,
		`xz -0c "$2" | "$1" build - "$3"`:                       "compressed with xz",
		`"$1" build --layout x "$2" "$3"`:                       "must be one of (aligned|tarfs)",
		`"$1" build "$2" /dev/null`:                             "not a regular file",
	} {
		dir := t.TempDir()
		out, err := exec.Command("bash", "-c", pipe, "-", bin, goldenTar, filepath.Join(dir, "v"), diffID).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v: %s; want %q", pipe, err, out, want)
		}
		wantNames(t, dir)
	}
}

// checkDamage flips a byte and wants exit status 1 and the block's offset.
func checkDamage(t *testing.T, bin, path, root string) {
	t.Helper()
	b := []byte(read(t, path))
	b[5*4096+17] ^= 4
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"verify", path}, {"verify", "--root-hash", root, path}} {
		out, err := exec.Command(bin, args...).CombinedOutput()
		exit, ok := err.(*exec.ExitError)
		if !ok || exit.ExitCode() != 1 || !strings.Contains(string(out), "data block 5 at offset 20480 is corrupted") {
			t.Errorf("%q: %v: %s; want exit status 1 and the offset 20480", args, err, out)
		}
	}
}
