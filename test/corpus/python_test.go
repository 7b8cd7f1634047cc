package corpus_test

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// TestCorpusPython takes tars that Python's tarfile wrote, header by header: see testdata/make.py.
func TestCorpusPython(t *testing.T) {
	tree.RequireRoot(t)
	tree.RequireTool(t, "python3")
	for format, most := range map[string]string{"ustar": "20", "gnu": "0", "pax": "0"} {
		t.Run(format, func(t *testing.T) {
			tarFile := filepath.Join(t.TempDir(), "layer.tar")
			leftOut := strings.TrimSpace(run(t, "python3", "testdata/make.py", format, tarFile))
			t.Logf("%s members left out, at most %s", leftOut, most)
			judge(t, tarFile, mustExtract(t, tarFile))
		})
	}
}

// TestCorpusPythonSparse has Python read the sparse files that GNU tar wrote, as a second opinion on their content.
func TestCorpusPythonSparse(t *testing.T) {
	src := source(t)
	for _, options := range [][]string{
		gnu("gnu", "--sparse"), gnu("oldgnu", "--sparse"), gnu("posix", "--sparse", "--sparse-version=0.0"),
		gnu("posix", "--sparse", "--sparse-version=0.1"), gnu("posix", "--sparse", "--sparse-version=1.0"),
	} {
		t.Run(strings.Join(options[1:], " "), func(t *testing.T) {
			dir, tarFile := t.TempDir(), filepath.Join(t.TempDir(), "layer.tar")
			run(t, options[0], append(options[1:], "-C", src+"/kinds", "-cf", tarFile,
				"hole", "all-hole", "end-hole", "many-holes", "large")...)
			run(t, "python3", "-c", "import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])", tarFile, dir)
			want := read(t, dir)
			eachLayout(t, func(t *testing.T, layout volume.Layout) {
				path, _, err := convert(t, tarFile, layout)
				if err != nil {
					t.Fatal(err)
				}
				got := read(t, tree.MountVolume(t, path))
				for name, w := range want {
					if g := got[name]; w.Mode&unix.S_IFMT == unix.S_IFREG && (g.Size != w.Size || g.SHA256 != w.SHA256) {
						t.Errorf("%s: %d bytes, %s; Python reads %d bytes, %s", name, g.Size, g.SHA256, w.Size, w.SHA256)
					}
				}
				if len(got) != len(want) || len(got) != 6 {
					t.Errorf("%d entries, %d by Python, want 6", len(got), len(want))
				}
			})
		})
	}
}
