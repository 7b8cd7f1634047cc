package corpus_test

import (
	"bytes"
	"compress/bzip2"
	"encoding/base64"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// TestCorpusGo takes all archives of the test data of Go's archive/tar.
func TestCorpusGo(t *testing.T) {
	t.Parallel()
	tree.RequireRoot(t)
	tree.RequireTool(t, "bsdtar")
	dir := filepath.Join(strings.TrimSpace(run(t, "go", "env", "GOROOT")), "src/archive/tar/testdata")
	paths, err := filepath.Glob(filepath.Join(dir, "*.tar*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Skipf("this Go has no %s", dir)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			tarFile := filepath.Join(t.TempDir(), "layer.tar")
			if err := os.WriteFile(tarFile, decode(t, path), 0o644); err != nil {
				t.Fatal(err)
			}
			judgeGo(t, filepath.Base(path), tarFile)
		})
	}
}

// decode returns the tar in a file that may be compressed or encoded.
func decode(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	switch filepath.Ext(path) {
	case ".base64":
		b, err = base64.StdEncoding.DecodeString(string(bytes.TrimSpace(b)))
	case ".bz2":
		b, err = io.ReadAll(bzip2.NewReader(bytes.NewReader(b)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// refusedGo are the archives that are no layer although GNU tar or bsdtar extract something, with a part of the error.
var refusedGo = map[string]string{
	// A dump of a directory by tar --listed-incremental: its entry says what to delete. No layer has one.
	"gnu-incremental.tar": `type 'D' is not one that a layer can have`,
	// Files of 60 GB.
	"gnu-sparse-big.tar.base64": "sparse files are larger than",
	"pax-sparse-big.tar.base64": "sparse files are larger than",
	// archive/tar bounds a file's map of holes to 1 MiB.
	"gnu-sparse-many-zeros.tar.bz2": "sparse map too long",
	// Records that POSIX does not allow; GNU tar and bsdtar pass over them and take the ustar header's word.
	"pax-bad-mtime-file.tar": "invalid tar header",
	"pax-nul-path.tar":       "invalid tar header",
}

// readGo are the archives on which readers disagree, with what the volume must have.
var readGo = map[string][]string{
	// Go 1.7 wrote prefixes into GNU headers; archive/tar, and with it containers/storage, reads them, GNU tar does
	// not.
	"invalid-go17.tar": {".", strings.Repeat("a", 97), strings.Repeat("a", 97) + "/foo"},
}

func judgeGo(t *testing.T, name, tarFile string) {
	path, d, err := convert(t, tarFile, volume.LayoutAligned)
	if part, listed := refusedGo[name]; err != nil || listed {
		refuse(t, tarFile, err, part)
		return
	}
	if paths, listed := readGo[name]; listed {
		got := read(t, tree.MountVolume(t, path))
		if have := slices.Sorted(maps.Keys(got)); !slices.Equal(have, paths) {
			t.Errorf("the kernel shows %q, want %q", have, paths)
		}
		witnesses(t, path, d, got)
		return
	}
	want, err := extract(t, tarFile, gnuExtract...)
	if err != nil {
		t.Logf("GNU tar: %v", err)
		if want, err = extract(t, tarFile, bsdExtract...); err != nil {
			t.Fatalf("accepted, but neither GNU tar nor bsdtar extracts it: %v", err)
		}
	}
	judge(t, tarFile, want)
}

// refuse checks the error err of a tar that is refused. If part is empty, no other program may accept the tar.
func refuse(t *testing.T, tarFile string, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Fatalf("error %v, want one with %q", err, part)
	}
	if _, _, other := convert(t, tarFile, volume.LayoutTarfs); other == nil || other.Error() != err.Error() {
		t.Errorf("layout tarfs says %v, layout aligned %v", other, err)
	}
	if part != "" {
		return
	}
	for _, program := range [][]string{gnuExtract, bsdExtract} {
		if extractTo(t.TempDir(), tarFile, program...) == nil {
			t.Errorf("refused: %v; but %s extracts it", err, program[0])
		}
	}
	t.Logf("refused by all: %v", err)
}
