package driver_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	graphdriver "github.com/containers/storage/drivers"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// envPolicy names a binary SELinux policy that may be loaded. Package vmrun sets it in a VM whose kernel has SELinux.
const envPolicy = "VMRUN_SELINUX_POLICY"

// loadPolicy makes SELinux take labels.
func loadPolicy(t *testing.T) {
	t.Helper()
	path := os.Getenv(envPolicy)
	if path == "" {
		t.Skip("needs a kernel with SELinux and without a policy: package vmrun has one")
	}
	const dir = "/sys/fs/selinux"
	if err := unix.Mount("selinuxfs", dir, "selinuxfs", 0, ""); err != nil {
		t.Fatalf("mount %s: %v", dir, err)
	}
	policy, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "load"), policy, 0); err != nil {
		log := make([]byte, 1<<16)
		n, _ := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, log)
		lines := strings.Split(strings.TrimSpace(string(log[:max(n, 0)])), "\n")
		t.Fatalf("load the policy: %v; the kernel: %s", err, strings.Join(lines[max(0, len(lines)-5):], "; "))
	}
}

// TestSELinux wants each container's files to have the label that its mount was asked for, with categories and their
// comma, however the overlay is mounted. Containers with different labels share their volumes.
func TestSELinux(t *testing.T) {
	needRoot(t)
	loadPolicy(t)
	for name, byString := range map[string]bool{"fsconfig": false, "mount": true} {
		t.Run(name, func(t *testing.T) {
			d, root := newDriver(t)
			if byString {
				driver.UseMountString(d)
			}
			apply(t, d, "base", "", makeTar(t, file{name: "lower", content: "x"}))
			for id, label := range map[string]string{
				"one": "u:object_r:files_t:s0:c1,c2", "two": "u:object_r:files_t:s0:c1", "none": "",
			} {
				if err := d.CreateReadWrite(id, "base", nil); err != nil {
					t.Fatal(err)
				}
				dir, err := d.Get(id, graphdriver.MountOpts{MountLabel: label, Options: []string{"nodev"}})
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "upper"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{".", "lower", "upper"} {
					wantLabel(t, filepath.Join(dir, name), label)
				}
				for _, m := range mountsIn(t, root, filepath.Join("layers", id)) {
					if label != "" && !strings.Contains(m.VFSOptions, "context=") || !strings.Contains(m.Options, "nodev") {
						t.Errorf("%s has options %s, %s", id, m.Options, m.VFSOptions)
					}
				}
			}
			wantDiskLabel(t, "u:object_r:files_t:s0:c1,c2")
			if n := len(mountsIn(t, root, "mounts")); n != 1 {
				t.Errorf("%d host mounts, want 1", n)
			}
		})
	}
}

// wantDiskLabel wants the disk that a VM writes to to have the label of the container's files.
func wantDiskLabel(t *testing.T, label string) {
	t.Helper()
	d, root := newDriver(t, "erofs.rw_layer=ext4", "erofs.rw_size=64M")
	if err := d.CreateReadWrite("vm", "", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get("vm", graphdriver.MountOpts{MountLabel: label}); err != nil {
		t.Fatal(err)
	}
	wantLabel(t, filepath.Join(root, driver.Name, "layers", "vm", volume.RWLayerName), label)
}

// wantLabel compares a file's label; an empty one means that nothing was asked for.
func wantLabel(t *testing.T, path, label string) {
	t.Helper()
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(path, "security.selinux", buf)
	if err != nil {
		t.Fatalf("label of %s: %v", path, err)
	}
	got := strings.TrimRight(string(buf[:n]), "\x00")
	if label != "" && got != label || label == "" && strings.Contains(got, "files_t") {
		t.Errorf("%s has label %s, want %q", path, got, label)
	}
}
