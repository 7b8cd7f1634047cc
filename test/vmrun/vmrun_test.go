package vmrun_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/standin/guest"
	"github.com/crio-erofs/crio-erofs/test/vmrun"
)

// needGuest makes a guest, or finds it.
func needGuest(t *testing.T, kernel string) *vmrun.Guest {
	t.Helper()
	for _, tool := range []string{"apt-get", "dpkg-deb", "qemu-system-x86_64", "mkfs.ext4", "busybox"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s (make deps)", tool)
		}
	}
	dir := os.Getenv(guest.EnvDir)
	if dir == "" {
		dir = "../../.cache/guest"
	}
	files, err := vmrun.Build(t.Context(), dir, ".", kernel)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// makeDisk makes a disk image with a file system.
func makeDisk(t *testing.T, size int64, mkfs ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(mkfs[0], append(mkfs[1:], path)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", mkfs, err, out)
	}
	return path
}

// TestRun runs a shell: its output and exit status arrive, and what it wrote is on the disk for the next run.
func TestRun(t *testing.T) {
	files := needGuest(t, vmrun.Kernel61)
	disk := makeDisk(t, 64<<20, "mkfs.ext4", "-q")
	run := func(script string) (string, int) {
		var output bytes.Buffer
		exit, err := vmrun.Run(t.Context(), vmrun.Config{
			Guest: files, Tools: []string{"busybox"}, Output: &output,
			Plan: vmrun.Plan{
				Args:   []string{"/bin/busybox", "sh", "-c", script},
				Env:    []string{"GREETING=hello"},
				Dir:    "/data",
				Mounts: []vmrun.Mount{{Serial: "data", Target: "/data", FSType: "ext4"}},
			},
			Disks: []vmrun.Disk{{Path: disk, Serial: "data"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return output.String(), exit
	}
	out, exit := run(`echo "$GREETING" > file; busybox uname -r; busybox grep -c '^loop ' /proc/modules; exit 3`)
	if exit != 3 || !strings.HasPrefix(out, "6.1.") || !strings.HasSuffix(out, "\n1\n") {
		t.Errorf("exit status %d, output %q", exit, out)
	}
	if out, exit := run("busybox cat file"); exit != 0 || out != "hello\n" {
		t.Errorf("the second run: exit status %d, output %q", exit, out)
	}
}

// TestNoProgram wants the guest's error, once.
func TestNoProgram(t *testing.T) {
	files := needGuest(t, vmrun.Kernel61)
	_, err := vmrun.Run(t.Context(), vmrun.Config{Guest: files, Plan: vmrun.Plan{Args: []string{"/none"}}})
	if err == nil || !strings.Contains(err.Error(), "/none: no such file") {
		t.Errorf("error %v", err)
	}
}

// TestKill cuts the power while the program runs.
func TestKill(t *testing.T) {
	files := needGuest(t, vmrun.Kernel61)
	m, err := vmrun.Start(t.Context(), vmrun.Config{
		Guest: files, Tools: []string{"busybox"}, Plan: vmrun.Plan{Args: []string{"/bin/busybox", "sleep", "1000"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Kill()
	if _, err := m.Wait(); err == nil || !strings.Contains(err.Error(), "QEMU ended before") {
		t.Errorf("error %v", err)
	}
}
