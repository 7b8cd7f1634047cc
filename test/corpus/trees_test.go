package corpus_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/corpus"
	"github.com/crio-erofs/crio-erofs/test/images"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// TestCorpusNPM takes more than 30,000 small files.
func TestCorpusNPM(t *testing.T) {
	t.Parallel()
	tree.RequireRoot(t)
	tarFile, err := corpus.NPM(t.Context(), cacheDir(t))
	if err != nil {
		t.Skipf("not in the cache, and: %v", err)
	}
	want := mustExtract(t, tarFile)
	if len(want) < 30000 {
		t.Fatalf("the tree has %d entries only", len(want))
	}
	judge(t, tarFile, want)
}

// TestCorpusDebian takes the layers of a minimal Debian, with everything odd that a layer can have, one by one and
// merged.
func TestCorpusDebian(t *testing.T) {
	t.Parallel()
	tree.RequireRoot(t)
	image, err := images.Debian.Build(t.Context(), cacheDir(t))
	if err != nil {
		t.Skipf("not in the cache, and: %v", err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	merge := t.TempDir()
	for i, layer := range layers {
		r, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		tarFile := filepath.Join(merge, fmt.Sprintf("%02d.tar", i))
		writeFile(t, tarFile, r)
		dir := t.TempDir()
		if err := extractTo(dir, tarFile, gnuExtract...); err != nil {
			t.Fatal(err)
		}
		want := read(t, dir)
		t.Run(fmt.Sprint("layer", i), func(t *testing.T) { judge(t, tarFile, overlayed(want)) })
		withoutGiants(t, dir, tarFile, want)
	}
	t.Run("merged", func(t *testing.T) { judgeMerged(t, buildLayers(t, merge)) })
}

// withoutGiants packs a layer anew without files of gigabytes, if it has any: to read all of their zeros takes most of
// a minute, and that holes stay holes is driver/volume's to test.
func withoutGiants(t *testing.T, dir, tarFile string, has files) {
	t.Helper()
	giants := 0
	for name, e := range has {
		if e.Size >= 1<<30 {
			giants++
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if giants > 0 {
		pack := gnu("posix", "--sparse", "--xattrs", "--xattrs-include=*", "-C", dir, "-cf", tarFile, ".")
		run(t, pack[0], pack[1:]...)
	}
}

func writeFile(t *testing.T, name string, r io.ReadCloser) {
	t.Helper()
	defer r.Close()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		t.Fatal(err)
	}
}

// overlayed returns a layer's files with the whiteouts in overlayfs's form, from that of tars (OCI image-spec,
// layer.md).
func overlayed(want files) files {
	const prefix, opaque = ".wh.", ".wh..wh..opq"
	layer := files{}
	for name, e := range want {
		if !strings.HasPrefix(path.Base(name), prefix) {
			layer[name] = e
		}
	}
	for name := range want {
		dir, base := path.Dir(name), path.Base(name)
		hidden, is := strings.CutPrefix(base, prefix)
		switch {
		case base == opaque:
			layer[dir].Xattrs["trusted.overlay.opaque"] = "y"
		case is:
			name := path.Join(dir, hidden)
			layer[name] = tree.Entry{Mode: unix.S_IFCHR, Links: 1, Group: name}
		}
	}
	return layer
}

// TestCorpusGiant takes a file of 5 GB, most of it holes, in every form in which a tar can have it.
func TestCorpusGiant(t *testing.T) {
	t.Parallel()
	tree.RequireRoot(t)
	tree.RequireTool(t, "tar")
	src := t.TempDir()
	run(t, "bash", "-ec", `cd "$1"; for at in 0 1 1073741823 4294967295 4294967296 4831838207; do
		head -c 300000 /dev/urandom | dd of=giant bs=64K oflag=seek_bytes seek=$at conv=notrunc status=none; done
		truncate -s 5000000000 giant; printf end >> giant; echo small > z; touch -d 2020-02-02 giant z .`, "-", src)
	want := read(t, src)
	for _, options := range [][]string{gnu("gnu", "--sparse"), gnu("posix", "--sparse")} {
		t.Run(options[1], func(t *testing.T) {
			tarFile := filepath.Join(t.TempDir(), "layer.tar")
			run(t, options[0], append(options[1:], "-C", src, "-cf", tarFile, ".")...)
			judge(t, tarFile, want)
		})
	}
	t.Run("not sparse in the tar", func(t *testing.T) {
		path, d := convertOutput(t, command("tar", "--format=gnu", "-C", src, "-cf", "-", "."))
		witnesses(t, path, d, want)
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if used := st.Blocks * 512; used > 64<<20 { // the tree takes 40 MB
			t.Errorf("the volume uses %d bytes of disk: its holes are not holes", used)
		}
	})
}

// convertOutput makes a volume of what a program writes.
func convertOutput(t *testing.T, cmd *exec.Cmd) (string, *volume.Description) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), volume.FileName)
	d, err := volume.Create(path, out, volume.BuildOptions{})
	if err != nil {
		out.Close() // ends the program
	}
	if waitErr := cmd.Wait(); err == nil {
		err = waitErr
	}
	if err != nil {
		t.Fatal(err)
	}
	return path, d
}
