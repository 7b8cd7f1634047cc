package shim

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// loopMount makes an ext4 file system in a file, mounts it by way of a loop device, and returns the device.
func (f *fixture) loopMount(at string) string {
	f.t.Helper()
	for _, tool := range []string{"mkfs.ext4", "losetup", "mount"} {
		if _, err := exec.LookPath(tool); err != nil || os.Geteuid() != 0 {
			f.t.Skipf("needs root and %s", tool)
		}
	}
	file := filepath.Join(f.dir, "ext4.img")
	f.must(os.WriteFile(file, nil, 0o600))
	f.must(os.Truncate(file, 8<<20))
	f.mkdir(at)
	f.run("mkfs.ext4", "-q", file)
	f.run("mount", "-o", "loop", file, at)
	f.t.Cleanup(func() { f.run("umount", at) })
	out := f.run("findmnt", "-n", "-o", "SOURCE", at)
	return strings.TrimSpace(out)
}

func (f *fixture) run(name string, args ...string) string {
	f.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		f.t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}
