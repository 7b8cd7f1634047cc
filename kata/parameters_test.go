package kata_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
)

func TestParameters(t *testing.T) {
	d := kata.NewDMVerity(testVolume().Verity)
	if got := d.Parameters(); got != goldenParameters {
		t.Errorf("got  %s\nwant %s", got, goldenParameters)
	}
	back, err := kata.ParseParameters(goldenParameters)
	if err != nil {
		t.Fatal(err)
	}
	if *back != *d {
		t.Errorf("got %+v, want %+v", back, d)
	}
}

// The line that nydus-image printed for the RFC's author (confidential-containers/confidential-containers#137).
func TestParseParametersOfTheRFC(t *testing.T) {
	const hash = "5676d0482c2128e1ae1f59d4b1f253de57158856471b7b5a1bfc0501823bd632"
	d, err := kata.ParseParameters(`--no-superblock --format=1 -s "" --hash=sha256 --data-block-size=512 ` +
		`--hash-block-size=4096 --data-blocks 379918 --hash-offset 194519040 ` + hash)
	if err != nil {
		t.Fatal(err)
	}
	want := kata.DMVerity{HashType: "sha256", Hash: hash, BlockNum: 379918, BlockSize: 512, HashSize: 4096,
		Offset: 194519040, Salt: "-", HashVersion: 1, NoSuperblock: true}
	if *d != want {
		t.Errorf("got %+v", d)
	}
}

func TestParseParametersErrors(t *testing.T) {
	swap := func(old, new string) string { return strings.Replace(goldenParameters, old, new, 1) }
	for _, tt := range []struct{ line, want string }{
		{"", "--format is missing"},
		{swap(rootHash, ""), "root hash is missing"},
		{swap("--data-blocks 1038 ", ""), "--data-blocks is missing"},
		{swap(rootHash, rootHash+" "+rootHash), "root hash appears twice"},
		{swap("--format=1", "--format=1 --format=1"), "--format appears twice"},
		{swap("--format=1", "--format=x"), "--format: strconv"},
		{swap(`-s ""`, `-s ""x`), "salt"},
		{swap("--no-superblock", "--superblock=1"), "--superblock: unknown option"},
		{swap(rootHash, "a=b"), `root hash "a=b" is not hex`},
		{swap("4255744", "4255745"), "offset 4255745"},
		{"--format", "--format has no value"},
	} {
		if _, err := kata.ParseParameters(tt.line); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.line, err, tt.want)
		}
	}
}

// What Parameters writes is for veritysetup, so veritysetup judges: it makes a tree with a superblock, as volumes
// have one, and has to find it again behind the superblock, with the line's words and nothing else.
func TestParametersOpenARealTree(t *testing.T) {
	if _, err := exec.LookPath("veritysetup"); err != nil {
		t.Skip("veritysetup (package cryptsetup-bin) is not installed")
	}
	const blocks = 300 // two levels of hash blocks
	file := filepath.Join(t.TempDir(), volume.FileName)
	if err := os.WriteFile(file, bytes.Repeat([]byte("crio-erofs block"), blocks*4096/16), 0o600); err != nil {
		t.Fatal(err)
	}
	out := run(t, true, "veritysetup", "format", "--salt=-", "--data-blocks=300", "--hash-offset=1228800", file, file)
	_, hash, _ := strings.Cut(out, "Root hash:")
	line := kata.NewDMVerity(&volume.Verity{RootHash: strings.TrimSpace(hash), Algorithm: "sha256", HashType: 1,
		DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: blocks, HashOffset: 1228800, TreeOffset: 1228800 + 4096,
	}).Parameters()

	words := strings.Fields(strings.Replace(line, `""`, `EMPTY`, 1))
	args := []string{"verify", file, file}
	for _, w := range words {
		args = append(args, strings.Replace(w, "EMPTY", "", 1))
	}
	run(t, true, "veritysetup", args...)
	args[len(args)-1] = strings.Repeat("0", 64)
	run(t, false, "veritysetup", args...)
}

func run(t *testing.T, wantOK bool, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if (err == nil) != wantOK {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}
