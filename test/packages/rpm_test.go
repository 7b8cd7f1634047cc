package packages_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rpmTree is a root with RPM's database and a shell, for the packages' scripts, in it.
type rpmTree struct {
	t    *testing.T
	root string
}

func newRPMTree(t *testing.T) *rpmTree {
	t.Helper()
	needRoot(t)
	r := &rpmTree{t, t.TempDir()}
	run(t, "mkdir", "-p", r.path("/bin"), r.path("/var/lib/rpm"))
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skipf("%v: run 'make deps'", err)
	}
	run(t, "cp", busybox, r.path("/bin/sh"))
	run(t, "ln", "-s", "sh", r.path("/bin/grep"))
	run(t, "rpm", "--root", r.root, "--dbpath", "/var/lib/rpm", "--initdb")
	return r
}

func (r *rpmTree) path(name string) string { return filepath.Join(r.root, name) }

// rpm runs rpm on the tree. What the packages depend on is not there.
func (r *rpmTree) rpm(args ...string) string {
	r.t.Helper()
	// Debian's rpm asks whether one means it.
	return run(r.t, "rpm", append([]string{"--force-debian", "--root", r.root, "--dbpath", "/var/lib/rpm"}, args...)...)
}

// TestRPM installs, upgrades and removes the packages: their scripts run without a word, and changed configuration stays.
func TestRPM(t *testing.T) {
	node, server := packageFile(t, "crio-erofs.rpm"), packageFile(t, "cri-o-erofs.rpm")
	r := newRPMTree(t)
	r.quiet(r.rpm("-i", "--nodeps", node, server))
	r.quiet(r.rpm("-V", "--nodeps", "crio-erofs", "cri-o-erofs"))

	run(t, "chroot", r.root, "/usr/bin/crio-erofs", "--version") // it is static
	config, decision := r.path("/etc/crio-erofs/config.toml"), r.path("/etc/crio/crio.conf.d/60-erofs.conf")
	write(t, config, "# changed by the admin\n")
	write(t, decision, read(t, r.path("/usr/share/crio-erofs/crio.conf.d/60-erofs.conf")))
	r.quiet(r.rpm("-U", "--nodeps", packageFile(t, "crio-erofs-next.rpm")))
	if got := r.rpm("-q", "crio-erofs"); !strings.HasPrefix(got, "crio-erofs-1.2.4-1.") {
		t.Errorf("after the upgrade: %s", got)
	}
	if got := read(t, config); got != "# changed by the admin\n" {
		t.Errorf("after the upgrade the configuration is %q", got)
	}
	out := r.rpm("-e", "crio-erofs", "cri-o-erofs")
	if !strings.Contains(out, "60-erofs.conf names the storage driver erofs") {
		t.Errorf("the removal does not say what keeps another CRI-O from starting: %q", out)
	}
	if err := os.RemoveAll(r.path("/var")); err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, line := range listDirectory(t, r.root) {
		if fields := strings.Fields(line); !strings.HasPrefix(fields[2], "/bin/") {
			left = append(left, fields[2])
		}
	}
	slices.Sort(left)
	want := "/etc/crio-erofs/config.toml.rpmsave /etc/crio/crio.conf.d/60-erofs.conf"
	if got := strings.Join(left, " "); got != want {
		t.Errorf("left after the removal: %s; want %s", got, want)
	}
}

func (r *rpmTree) quiet(out string) {
	r.t.Helper()
	if out != "" {
		r.t.Errorf("rpm says: %s", out)
	}
}

// TestRPMDepends: what the package says it needs are its libraries, by the names that rpmbuild gives them.
func TestRPMDepends(t *testing.T) {
	out := run(t, "rpm", "-qp", "--requires", packageFile(t, "cri-o-erofs.rpm"))
	for _, want := range []string{"conmon", "(crun or runc)", "libc.so.6()(64bit)", "libc.so.6(GLIBC_2.34)(64bit)",
		"libseccomp.so.2()(64bit)"} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("%s is not required: %s", want, out)
		}
	}
	if out := run(t, "rpm", "-qp", "--requires", packageFile(t, "crio-erofs.rpm")); strings.Contains(out, ".so") {
		t.Errorf("static programs need libraries: %s", out)
	}
}
