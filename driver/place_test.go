package driver_test

import (
	"os"
	"os/exec"
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
