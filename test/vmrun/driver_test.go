package vmrun_test

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	fstest "github.com/crio-erofs/crio-erofs/test/tree"
	"github.com/crio-erofs/crio-erofs/test/vmrun"
)

// envTests is a pattern of other tests of the driver's to run; "." are all. They take six minutes with emulated CPUs.
const envTests = "VMRUN_TESTS"

// TestDriverOldKernel runs tests of the driver's on Linux 6.1: without file-backed mounts, and with mount options that
// have to fit in a page.
func TestDriverOldKernel(t *testing.T) {
	files := needGuest(t, vmrun.Kernel61)
	runDriverTests(t, files, "TestStorage", "TestTarfsKernel", "TestLayouts", "TestMostLayers", "TestHostMounts",
		"TestVolatile", "TestUserNamespace",
		"TestQuota", "TestQuotaLeftover", "TestHostVerity", "TestHostVeritySwitchedOn", "TestHostVerityLeftover",
		"TestHostVerityForeign")
}

// TestDriverNewKernel runs what can only be seen on a kernel that has both device-mapper and blocks of 512 bytes.
func TestDriverNewKernel(t *testing.T) {
	if os.Getenv(envTests) == "" {
		t.Skipf("needs another kernel and some minutes: %s='TestHostVerity.*' runs it", envTests)
	}
	runDriverTests(t, needGuest(t, vmrun.Kernel612))
}

// TestDriverSELinux runs the driver where SELinux has a policy.
func TestDriverSELinux(t *testing.T) {
	files := needGuest(t, vmrun.Kernel612)
	fstest.RequireTool(t, "secilc")
	policy := filepath.Join(t.TempDir(), "policy")
	cmd := exec.Command("secilc", "-c", "30", "-o", policy, "-f", policy+".contexts", "testdata/selinux.cil")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, err, out)
	}
	driverTest{
		guest: files, tests: []string{"TestSELinux"}, kernel: "security=selinux", files: map[string]string{"/policy": policy},
		env: []string{"VMRUN_SELINUX_POLICY=/policy"},
	}.run(t)
}

// driverTest is a run of some tests of the driver's in a guest, with their temporary directories on an ext4 disk.
type driverTest struct {
	guest  *vmrun.Guest
	tests  []string
	kernel string            // options of the kernel's
	files  map[string]string // for the guest
	env    []string
}

// runDriverTests runs tests of the driver's, or those that the environment names.
func runDriverTests(t *testing.T, files *vmrun.Guest, tests ...string) {
	t.Helper()
	driverTest{guest: files, tests: tests}.run(t)
}

func (d driverTest) run(t *testing.T) {
	t.Helper()
	tests := d.tests
	binary := filepath.Join(t.TempDir(), "driver.test")
	cmd := exec.Command("go", "test", "-c", "-o", binary, "github.com/crio-erofs/crio-erofs/driver")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, err, out)
	}
	pattern := "^(" + strings.Join(tests, "|") + ")$"
	if other := os.Getenv(envTests); other != "" && d.kernel == "" {
		pattern, tests = other, nil
	}
	inGuest := map[string]string{"/bin/driver.test": binary}
	maps.Copy(inGuest, d.files)
	var output bytes.Buffer
	exit, err := vmrun.Run(t.Context(), vmrun.Config{
		Guest: d.guest, Files: inGuest, Output: &output, KernelOptions: d.kernel,
		Tools: []string{"mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "mount", "umount", "truncate"},
		Plan: vmrun.Plan{
			Args:   []string{"/bin/driver.test", "-test.v", "-test.run", pattern},
			Env:    append([]string{"PATH=/bin", "HOME=/", "TMPDIR=/data"}, d.env...),
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
