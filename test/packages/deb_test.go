package packages_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
	"github.com/crio-erofs/crio-erofs/test/packages"
)

// debian is a Debian in which packages are installed.
type debian struct {
	*packages.Tree
	t *testing.T
}

func newDebian(t *testing.T) *debian {
	t.Helper()
	needRoot(t)
	dir, err := os.MkdirTemp("", "pk-") // short: sockets are below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	tree, err := packages.NewTree(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return &debian{tree, t}
}

// sh runs a script in it.
func (d *debian) sh(script string, args ...string) string {
	d.t.Helper()
	out, err := d.Run(d.t.Context(), append([]string{"sh", "-euc", script, "sh"}, args...)...)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

// copyIn puts a file into the folder that is visible inside.
func (d *debian) copyIn(path string) string {
	d.t.Helper()
	run(d.t, "cp", path, d.Changes)
	return filepath.Join(d.Changes, filepath.Base(path))
}

// write writes a file.
func (d *debian) write(path, content string) {
	d.t.Helper()
	file := filepath.Join(d.Changes, "upper", path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		d.t.Fatal(err)
	}
	write(d.t, file, content)
}

// TestDebian installs the packages into a Debian with nothing else, as an admin does, has CRI-O run a pod there, upgrades
// and removes them.
func TestDebian(t *testing.T) {
	node, server := packageFile(t, "crio-erofs.deb"), packageFile(t, "cri-o-erofs.deb")
	d := newDebian(t)
	d.sh(`apt-get install -qq --no-install-recommends "$@"`, d.copyIn(node), d.copyIn(server))
	if out := d.sh("dpkg --verify crio-erofs cri-o-erofs; find /etc/systemd -name '*crio*'"); out != "" {
		t.Errorf("after the installation: %s", out)
	}
	d.sh("crio-erofs --version && crio-erofs-hook version && crio version | grep graphdriver_erofs")
	t.Run("CRI-O", d.testCRIO)
	t.Run("upgrade and removal", d.testRemoval)
}

// testRemoval upgrades the node's package, and removes both.
func (d *debian) testRemoval(t *testing.T) {
	const changed = "# changed by the admin"
	d.sh("echo '"+changed+`' >> /etc/crio-erofs/config.toml
		mkdir /etc/crio-erofs/trusted.d; echo {} > /etc/crio-erofs/trusted.d/a.json
		# systemctl enable crio-erofs-hook
		wants=/etc/systemd/system/multi-user.target.wants
		mkdir -p $wants; ln -s /usr/lib/systemd/system/crio-erofs-hook.service $wants; rm /opt/nri/plugins/10-crio-erofs
		apt-get install -qq --no-install-recommends "$1"`, d.copyIn(packageFile(t, "crio-erofs-next.deb")))
	out := d.sh("dpkg-query -W -f '${Version}' crio-erofs; tail -n 1 /etc/crio-erofs/config.toml; ls /etc/crio/crio.conf.d")
	if !strings.Contains(out, "1.2.4-1") || !strings.Contains(out, changed) || strings.Contains(out, "dpkg") {
		t.Errorf("after the upgrade: %s", out)
	}
	if out := d.sh("ls /opt/nri/plugins"); out != "" {
		t.Errorf("the upgrade brings the plugin's link back, beside the service: %s", out)
	}
	out = d.sh("apt-get remove -qq crio-erofs cri-o-erofs")
	if !strings.Contains(out, "/etc/crio/crio.conf.d/60-erofs.conf names the storage driver erofs") {
		t.Errorf("the removal does not say what keeps another CRI-O from starting: %s", out)
	}
	left := d.sh("find / -xdev -path /proc -prune -o \\( -name '*crio*' -o -name '*erofs*' \\) ! -type d -print | sort")
	for line := range strings.Lines(left) {
		if !strings.HasPrefix(line, "/etc/") && !strings.HasPrefix(line, "/var/lib/dpkg/") {
			t.Errorf("left after the removal: %s", line)
		}
	}
	if out := d.sh("tail -n 1 /etc/crio-erofs/config.toml"); strings.TrimSpace(out) != changed {
		t.Errorf("after the removal: %s", out)
	}
	d.sh("apt-get purge -qq crio-erofs cri-o-erofs")
	out = d.sh("find /etc/crio /etc/crio-erofs /etc/nri /opt/nri -type f 2>/dev/null | sort || :")
	if want := "/etc/crio-erofs/trusted.d/a.json\n/etc/crio/crio.conf.d/60-erofs.conf\n/etc/crio/crio.conf.d/99-test.conf\n"; out != want {
		t.Errorf("left after the purge: %q, want the admin's own: %q", out, want)
	}
}

// machineConf is what this machine needs of CRI-O beside the packages' configuration, none of it about images.
const machineConf = `[crio.image]
pause_image = "%s"
pause_command = "/pause"

[crio.runtime]
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
apparmor_profile = "unconfined"

[crio.runtime.runtimes.runc]
runtime_path = "%s"
runtime_type = "oci"
runtime_root = "/run/runc"
`

const registriesConf = `[[registry]]
location = "%s"
insecure = true
`

const cniConf = `{
  "cniVersion": "1.0.0", "name": "test",
  "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "ranges": [[{"subnet": "198.20.%d.0/24"}]]}}]
}
`

// testCRIO starts the packages' CRI-O: as it is after the installation, and after the admin's decision.
func (d *debian) testCRIO(t *testing.T) {
	registry, err := env.StartRegistry(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer registry.Stop()
	pause, small := push(t, images.Pause, registry), push(t, images.Small, registry)
	runtime, err := crio.Runtime("/usr/sbin/runc", d.Changes)
	if err != nil {
		t.Fatal(err)
	}
	d.write("/etc/crio/crio.conf.d/99-test.conf", fmt.Sprintf(machineConf, pause, runtime))
	d.write("/etc/containers/registries.conf.d/test.conf", fmt.Sprintf(registriesConf, registry.Address))
	d.write("/etc/cni/net.d/10-test.conflist", fmt.Sprintf(cniConf, os.Getpid()&0xff))

	if got := d.runPod(t, small); strings.Contains(got, "erofs") || !strings.Contains(got, "overlay") {
		t.Errorf("after the installation alone, pods are on %q", got)
	}
	d.sh("cp /usr/share/crio-erofs/crio.conf.d/60-erofs.conf /etc/crio/crio.conf.d/") // docs/install.md
	if got := d.runPod(t, small); !strings.Contains(got, "erofs/mounts/") {
		t.Errorf("after the admin's decision, pods are on %q", got)
	}
	volumes, err := filepath.Glob(filepath.Join(d.Changes, "containers/storage/erofs/volumes/*/layer.erofs"))
	if err != nil || len(volumes) == 0 {
		t.Errorf("%d volumes, %v", len(volumes), err)
	}
}

func push(t *testing.T, image images.Image, registry *env.Registry) string {
	t.Helper()
	cache, err := env.Cache()
	if err != nil {
		t.Fatal(err)
	}
	ref, err := image.Push(t.Context(), cache, registry.Address)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// runPod starts CRI-O, pulls the image and returns how its container's root is mounted.
func (d *debian) runPod(t *testing.T, image string) string {
	t.Helper()
	log := filepath.Join(t.TempDir(), "crio.log")
	socket := filepath.Join(d.Changes, "crio.sock")
	cmd := d.Command(t.Context(), "/usr/bin/crio", "--listen", socket)
	process, err := env.StartProcess(cmd, log)
	if err != nil {
		t.Fatal(err)
	}
	server, err := crio.Connect(t.Context(), process, socket, d.Changes)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Disconnect(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(read(t, log))
		}
	}()
	if _, err := server.PullImage(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	pod, err := server.RunPod(t.Context(), crio.PodOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, result, err := pod.Run(t.Context(), crio.ContainerOptions{
		Image: image, Command: []string{"sh", "-c", "cat /etc/motd; grep ' / ' /proc/mounts"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(result.Stdout, "This file came out of") {
		t.Errorf("the container says %+v", result)
	}
	d.waitForPlugin(t, log)
	return result.Stdout
}

// waitForPlugin waits until CRI-O's log says that it has the NRI plugin.
func (d *debian) waitForPlugin(t *testing.T, log string) {
	t.Helper()
	for range 100 {
		if strings.Contains(read(t, log), "crio-erofs") {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("CRI-O's log has nothing of the plugin: %s", read(t, log))
}
