package standin_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/containerd/containerd/api/types"
	"golang.org/x/sys/unix"
)

// volume is an EROFS image with its hash tree, made by Debian's mkfs.erofs and veritysetup.
type volume struct {
	path       string
	rootHash   string
	hashOffset int64
}

var rootHashLine = regexp.MustCompile(`(?m)^Root hash:\s+([0-9a-f]{64})$`)

// makeVolume builds a volume from what fill writes into a directory.
func makeVolume(t *testing.T, name string, fill func(dir string)) *volume {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	tree := filepath.Join(dir, "tree")
	must(t, os.MkdirAll(tree, 0o755))
	fill(tree)
	v := &volume{path: filepath.Join(dir, "layer.erofs")}
	command(t, "mkfs.erofs", "-T0", v.path, tree)
	fi, err := os.Stat(v.path)
	must(t, err)
	v.hashOffset = fi.Size()
	out := command(t, "veritysetup", "format", "--salt=-", "--data-blocks="+strconv.FormatInt(v.hashOffset/4096, 10),
		"--hash-offset="+strconv.FormatInt(v.hashOffset, 10), v.path, v.path)
	m := rootHashLine.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("veritysetup printed no root hash: %s", out)
	}
	v.rootHash = m[1]
	v.describe(t)
	return v
}

// describe writes the file that runtime-rs reads the verity parameters from. Without "salt": "" it would take a salt of
// zeros for the superblock's empty one.
func (v *volume) describe(t *testing.T) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"roothash": v.rootHash, "hashoffset": v.hashOffset, "salt": ""})
	must(t, err)
	must(t, os.WriteFile(v.path+".dmverity", b, 0o644))
}

// copy is the same volume in another directory.
func (v *volume) copy(t *testing.T) *volume {
	t.Helper()
	c := *v
	c.path = filepath.Join(t.TempDir(), "layer.erofs")
	command(t, "cp", v.path, c.path)
	c.describe(t)
	return &c
}

// rootfsOf makes the Rootfs list of volumes, the topmost first, as kata.Rootfs does.
func rootfsOf(t *testing.T, volumes ...*volume) []*types.Mount {
	t.Helper()
	var mounts []*types.Mount
	for _, v := range volumes {
		mounts = append(mounts, &types.Mount{Type: "erofs", Source: v.path,
			Options: []string{"ro", "loop", "X-containerd.dmverity=" + v.path + ".dmverity"}})
	}
	if len(volumes) == 1 { // an empty file counts as a mount and is skipped: only so is one volume verified
		empty := filepath.Join(t.TempDir(), "empty")
		must(t, os.WriteFile(empty, nil, 0o644))
		mounts = append(mounts, &types.Mount{Type: "erofs", Source: empty, Options: []string{"ro", "loop"}})
	}
	return append(mounts, &types.Mount{Type: "overlay", Source: "overlay"})
}

// busybox fills the lower layer of the test's containers.
func busybox(t *testing.T) func(dir string) {
	return func(dir string) {
		for _, d := range []string{"bin", "etc", "tmp", "proc", "sys", "dev"} {
			must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
		}
		command(t, "cp", "/bin/busybox", filepath.Join(dir, "bin", "busybox"))
		for _, tool := range []string{"sh", "cat", "echo", "sleep", "stat", "id", "mount", "stty", "tty", "hostname",
			"sha256sum", "head", "dd", "ls", "touch", "true", "wc", "seq"} {
			must(t, os.Symlink("busybox", filepath.Join(dir, "bin", tool)))
		}
		must(t, os.WriteFile(filepath.Join(dir, "etc", "passwd"), []byte("app:x:1000:1000::/home/app:/bin/sh\n"), 0o644))
		must(t, os.WriteFile(filepath.Join(dir, "etc", "layer"), []byte("lower\n"), 0o644))
		must(t, os.WriteFile(filepath.Join(dir, "etc", "gone"), []byte("hidden by a whiteout\n"), 0o644))
	}
}

// application fills the upper layer.
func application(t *testing.T) func(dir string) {
	return func(dir string) {
		must(t, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "etc", "layer"), []byte("upper\n"), 0o644))
		must(t, unix.Mknod(filepath.Join(dir, "etc", "gone"), unix.S_IFCHR, 0)) // a whiteout
		data := make([]byte, 256<<10)
		for i := range data {
			data[i] = byte(i>>12) ^ 0x5a
		}
		must(t, os.WriteFile(filepath.Join(dir, "data"), data, 0o644))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", fmt.Sprint(name, args), err, out)
	}
	return string(out)
}
