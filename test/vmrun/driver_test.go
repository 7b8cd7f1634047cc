package vmrun_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/vmrun"
)

// envTests is a pattern of other tests of the driver's to run; "." are all. They take six minutes with emulated CPUs.
const envTests = "VMRUN_TESTS"

// TestDriverOldKernel runs tests of the driver's on Linux 6.1: without file-backed mounts, and with mount options that
// have to fit in a page.
func TestDriverOldKernel(t *testing.T) {
	files := needGuest(t, vmrun.Kernel61)
	runDriverTests(t, files, "TestStorage", "TestTarfsKernel", "TestLayouts", "TestMostLayers", "TestHostMounts", "TestVolatile", "TestUserNamespace",
		"TestQuota", "TestQuotaLeftover", "TestHostVerity", "TestHostVerityLeftover", "TestHostVerityForeign")
}

// TestDriverNewKernel runs what can only be seen on a kernel that has both device-mapper and blocks of 512 bytes.
func TestDriverNewKernel(t *testing.T) {
	if os.Getenv(envTests) == "" {
		t.Skipf("needs another kernel and some minutes: %s='TestHostVerity.*' runs it", envTests)
	}
	runDriverTests(t, needGuest(t, vmrun.Kernel612))
}

// runDriverTests runs some tests of the driver's in a guest, with their temporary directories on an ext4 disk.
func runDriverTests(t *testing.T, files *vmrun.Guest, tests ...string) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "driver.test")
	cmd := exec.Command("go", "test", "-c", "-o", binary, "github.com/crio-erofs/crio-erofs/driver")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, err, out)
	}
	pattern := "^(" + strings.Join(tests, "|") + ")$"
	if other := os.Getenv(envTests); other != "" {
		pattern, tests = other, nil
	}
	var output bytes.Buffer
	exit, err := vmrun.Run(t.Context(), vmrun.Config{
		Guest: files, Files: map[string]string{"/bin/driver.test": binary}, Output: &output,
		Tools: []string{"mkfs.ext4", "mkfs.xfs", "mount", "umount", "truncate"},
		Plan: vmrun.Plan{
			Args:   []string{"/bin/driver.test", "-test.v", "-test.run", pattern},
			Env:    []string{"PATH=/bin", "HOME=/", "TMPDIR=/data"},
			Dir:    "/data",
			Mounts: []vmrun.Mount{{Serial: "data", Target: "/data", FSType: "ext4"}},
		},
		Disks: []vmrun.Disk{{Path: makeDisk(t, 2<<30, "mkfs.ext4", "-q"), Serial: "data"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tests {
		if !strings.Contains(output.String(), "--- PASS: "+name+" ") {
			t.Errorf("%s did not pass", name)
		}
	}
	if len(tests) > 0 && strings.Contains(output.String(), "--- SKIP") {
		t.Error("something was skipped")
	}
	if exit != 0 {
		t.Errorf("exit status %d", exit)
	}
	if t.Failed() || len(tests) == 0 {
		t.Log(output.String())
	}
}
