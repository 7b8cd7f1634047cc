package driver_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/reexec"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
)

const childName = "driver-test-apply"

func init() {
	reexec.Register(childName, func() {
		if err := applyStdin(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	})
}

// child is a process that makes a layer of its standard input.
func child(root, id string) *exec.Cmd { return reexec.Command(childName, root, id) }

func applyStdin(root, id string) error {
	d, err := openDriver(root)
	if err != nil {
		return err
	}
	if err := d.Create(id, "", nil); err != nil {
		return err
	}
	_, err = d.ApplyDiff(id, "", graphdriver.ApplyDiffOpts{Diff: os.Stdin})
	return err
}

// startPull starts a child that pulls a layer and stops half-way.
func startPull(t *testing.T, root, id string, layer []byte) (*exec.Cmd, io.WriteCloser) {
	t.Helper()
	cmd := child(root, id)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(layer[:len(layer)/2]); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		files, err := filepath.Glob(filepath.Join(root, driver.Name, "tmp/*/volume/layer.erofs"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) == 1 {
			if _, err := os.Stat(filepath.Join(root, driver.Name, "layers", id, "layer.json")); err == nil {
				return cmd, in
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the child does not start to convert")
		}
	}
}

// TestInitDuringPull opens the store while another process is in the middle of a pull.
func TestInitDuringPull(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	layer := makeTar(t, file{name: "f", content: strings.Repeat("content\n", 1<<17)})
	cmd, in := startPull(t, root, "layer", layer)
	d := reopen(t, root)
	wantNames(t, root, "tmp", 1)
	if _, err := in.Write(layer[len(layer)/2:]); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(get(t, d, "layer") + "/f"); err != nil || fi.Size() != 8<<17 {
		t.Errorf("pulled file: %v, %v", fi, err)
	}
	put(t, d, "layer")
	wantNames(t, root, "tmp", 0)
}

// TestKilled kills a process in the middle of a pull: the next Init removes what is left.
func TestKilled(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	layer := makeTar(t, file{name: "f", content: strings.Repeat("content\n", 1<<17)})
	cmd, in := startPull(t, root, "layer", layer)
	if err := cmd.Process.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	in.Close()
	_ = cmd.Wait() // killed, as it should be
	wantNames(t, root, "tmp", 1)
	d := reopen(t, root)
	wantNames(t, root, "tmp", 0)
	wantNames(t, root, "volumes", 0)
	// containers/storage knows that the layer was not finished, removes it and pulls again.
	apply(t, d, "layer", "", layer)
	wantNames(t, root, "volumes", 1)
}

// TestRecovery makes by hand what a crash leaves between any two steps.
func TestRecovery(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	home := driver.Home(d)
	apply(t, d, "good", "", makeTar(t, file{name: "good", content: "g"}))
	if err := d.Create("linked", "", nil); err != nil {
		t.Fatal(err)
	}
	apply(t, d, "lost", "", makeTar(t, file{name: "lost", content: "l"}))
	m, err := d.Metadata("lost")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.MkdirAll(filepath.Join(home, "tmp/123/volume"), 0o700),
		os.MkdirAll(filepath.Join(home, "layers/half/diff"), 0o700),
		os.Link(m["Volume"], filepath.Join(home, "layers/linked/volume.erofs")), // step 3 without step 4
		os.Remove(filepath.Join(home, "layers/lost/layer.json")),                // an interrupted Remove
		os.MkdirAll(filepath.Join(home, "mounts/0123456789abcdef01234567"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d = reopen(t, root)
	wantNames(t, root, "tmp", 0)
	wantNames(t, root, "mounts", 0) // there is no such volume
	wantNames(t, root, "volumes", 1)
	ids, err := d.ListLayers()
	if err != nil || len(ids) != 2 || d.Exists("half") || d.Exists("lost") {
		t.Errorf("layers: %v, %v", ids, err)
	}
	if got := tree(t, get(t, d, "good")); got != "/good ---------- g" {
		t.Error(got)
	}
	put(t, d, "good")
}

// TestBadTar pulls what is no proper layer: an error and nothing left.
func TestBadTar(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	good := makeTar(t, file{name: "f", content: strings.Repeat("x", 5000)})
	for name, layer := range map[string][]byte{
		"truncated": good[:2000],
		"no tar":    bytes.Repeat([]byte("no tar "), 1000),
	} {
		if err := d.Create("layer", "", nil); err != nil {
			t.Fatal(err)
		}
		_, err := d.ApplyDiff("layer", "", graphdriver.ApplyDiffOpts{Diff: bytes.NewReader(layer)})
		if err == nil || !strings.Contains(err.Error(), "layer layer") {
			t.Errorf("%s: error %v does not name the layer", name, err)
		}
		wantNames(t, root, "tmp", 0)
		wantNames(t, root, "volumes", 0)
		if err := d.Remove("layer"); err != nil {
			t.Error(err)
		}
	}
}

// TestFullDisk fills a small file system: the pull fails, leaves nothing, and the store still opens and lets go of
// layers.
func TestFullDisk(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("needs mkfs.ext4")
	}
	image, root := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	run(t, "truncate", "-s", "16M", image)
	run(t, "mkfs.ext4", "-q", image)
	run(t, "mount", "-o", "loop", image, root)
	t.Cleanup(func() { run(t, "umount", root) })
	d := reopen(t, root)
	apply(t, d, "small", "", makeTar(t, file{name: "f", content: "x"}))

	if err := d.Create("big", "small", nil); err != nil {
		t.Fatal(err)
	}
	before := free(t, root)
	big := makeTar(t, file{name: "f", content: strings.Repeat("0123456789abcdef", 2<<20)})
	_, err := d.ApplyDiff("big", "small", graphdriver.ApplyDiffOpts{Diff: bytes.NewReader(big)})
	if err == nil || !strings.Contains(err.Error(), unix.ENOSPC.Error()) {
		t.Errorf("error %v does not say that the disk is full", err)
	}
	wantNames(t, root, "tmp", 0)
	wantNames(t, root, "volumes", 1)
	if after := free(t, root); after < before {
		t.Errorf("%d bytes free before and %d after", before, after)
	}

	// To the last block, which a directory would need.
	fill, err := os.Create(filepath.Join(root, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(fill, zeros{}); err == nil {
		t.Fatalf("disk not full after %d bytes", n)
	}
	fill.Close()
	d = reopen(t, root)
	for _, id := range []string{"big", "small"} {
		if err := d.Remove(id); err != nil {
			t.Error(err)
		}
	}
	wantNames(t, root, "volumes", 0)
	wantNames(t, root, "layers", 0)
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func free(t *testing.T, dir string) uint64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Bfree * uint64(st.Bsize)
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// TestAbandon wants a failed ApplyDiff to stop who writes the stream: containers/storage's goroutine would wait
// forever.
func TestAbandon(t *testing.T) {
	needRoot(t)
	d, _ := newDriver(t)
	if err := d.Create("layer", "", nil); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(w, strings.NewReader(strings.Repeat("no tar ", 1<<20)))
		done <- err
	}()
	if _, err := d.ApplyDiff("layer", "", graphdriver.ApplyDiffOpts{Diff: r}); err == nil {
		t.Error("no error for what is no tar")
	}
	select {
	case err := <-done:
		if err == nil {
			t.Error("the writer does not learn that its stream was refused")
		}
	case <-time.After(10 * time.Second):
		t.Error("the writer still waits")
	}
}
