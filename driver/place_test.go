package driver_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestTmpfs has the store in memory, where the kernel may be unable to mount a file without a loop device.
func TestTmpfs(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	run(t, "mount", "-t", "tmpfs", "tmpfs", root)
	t.Cleanup(func() { run(t, "umount", root) })
	d := reopen(t, root)
	apply(t, d, "base", "", makeTar(t, file{name: "a", content: "a"}))
	if err := d.CreateReadWrite("c", "base", nil); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, get(t, d, "c")); got != "/a ---------- a" {
		t.Errorf("got %s", got)
	}
}

// TestPropagation looks from another mount namespace, as Kata's shim does: mounts made later are to appear there, and
// to go away.
func TestPropagation(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Skip("needs unshare")
	}
	root := t.TempDir()
	run(t, "mount", "--bind", "--make-shared", root, root) // as systemd makes everything
	t.Cleanup(func() { run(t, "umount", root) })
	d := reopen(t, root)
	apply(t, d, "base", "", makeTar(t, file{name: "a", content: "a"}))
	if err := d.CreateReadWrite("c", "base", nil); err != nil {
		t.Fatal(err)
	}
	shim := exec.Command("unshare", "--mount", "--propagation", "slave", "sleep", "60")
	if err := shim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = shim.Process.Kill()
		_ = shim.Wait() // killed, as it should be
	})
	waitFor(t, "the namespace", func() bool { return strings.Contains(mountsOf(t, shim, root), " master:") })
	own := mountsOf(t, shim, root)
	get(t, d, "c")
	got := mountsOf(t, shim, root)
	if !strings.Contains(got, root+"/erofs/mounts/") || !strings.Contains(got, root+"/erofs/layers/c/merged") {
		t.Errorf("the other namespace does not see the mounts:\n%s", got)
	}
	put(t, d, "c")
	if got := mountsOf(t, shim, root); got != own {
		t.Errorf("the other namespace still has mounts:\n%s", got)
	}
}

// mountsOf returns what a process has mounted on a directory and below.
func mountsOf(t *testing.T, cmd *exec.Cmd, dir string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, line := range strings.Split(string(b), "\n") {
		if strings.Contains(line, " "+dir) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// TestNumberSign has a store in a directory with a "#", which the kernel writes in two ways into the mount table: as it
// is in mount points, and as \043 in sources.
func TestNumberSign(t *testing.T) {
	needRoot(t)
	root := filepath.Join(t.TempDir(), "pool#1")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	d := reopen(t, root)
	apply(t, d, "base", "", makeTar(t, file{name: "a", content: "a"}))
	for _, id := range []string{"c1", "c2"} {
		if err := d.CreateReadWrite(id, "base", nil); err != nil {
			t.Fatal(err)
		}
		get(t, d, id)
	}
	put(t, d, "c1")
	if n := len(mountsIn(t, root, "mounts")); n != 1 {
		t.Errorf("%d host mounts while a container is mounted, want 1", n)
	}
	if err := d.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if n := len(mountsIn(t, root, "")); n != 0 {
		t.Errorf("Cleanup leaves %d mounts", n)
	}
}

// TestLargeSectors has the store on a disk with sectors of 4096 bytes, and loop devices over volumes of either layout.
func TestLargeSectors(t *testing.T) {
	needRoot(t)
	base := t.TempDir()
	image, root := filepath.Join(base, "disk"), filepath.Join(base, "root")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 512<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", "--sector-size", "4096", image).Output()
	if err != nil {
		t.Skipf("losetup: %v", err)
	}
	disk := strings.TrimSpace(string(out))
	t.Cleanup(func() { run(t, "losetup", "-d", disk) })
	run(t, "mkfs.ext4", "-q", disk)
	run(t, "mount", disk, root)
	t.Cleanup(func() { run(t, "umount", root) })
	for _, layout := range []string{"aligned", "tarfs"} {
		d := reopen(t, root, "erofs.mount=loop", "erofs.layout="+layout)
		apply(t, d, layout, "", makeTar(t, file{name: "a", content: layout}))
		if got := tree(t, get(t, d, layout)); got != "/a ---------- "+layout {
			t.Errorf("%s: got %s", layout, got)
		}
		put(t, d, layout)
	}
}
