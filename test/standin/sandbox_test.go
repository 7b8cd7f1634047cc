package standin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/guest"
	"github.com/crio-erofs/crio-erofs/test/standin/shim"
)

// patience bounds every wait of the tests.
const patience = 60 * time.Second

// programs are what the tests build once.
type programs struct{ shim string }

var built programs

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "standin-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	os.Setenv(shim.EnvRoot, filepath.Join(dir, "run"))
	if os.Getenv(guest.EnvDir) == "" {
		wd, werr := os.Getwd()
		if werr != nil {
			panic(werr)
		}
		os.Setenv(guest.EnvDir, filepath.Join(wd, "..", "..", ".cache", "guest"))
	}
	built.shim = filepath.Join(dir, "containerd-shim-kata-v2")
	out, err := exec.Command("go", "build", "-o", built.shim, "./cmd/containerd-shim-kata-v2").CombinedOutput()
	if err != nil {
		panic(string(out))
	}
	return m.Run()
}

func needVM(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for tool, pkg := range map[string]string{
		"qemu-system-x86_64": "qemu-system-x86", "mkfs.erofs": "erofs-utils", "veritysetup": "cryptsetup-bin",
		"/bin/busybox": "busybox-static",
	} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s (Debian package %s)", tool, pkg)
		}
	}
	if _, err := guest.Build(t.Context(), os.Getenv(guest.EnvDir), "."); err != nil {
		t.Fatal(err)
	}
}

// sandbox is a pod as CRI-O sees it.
type sandbox struct {
	*testing.T
	id   string
	task taskapi.TaskService
	conn *ttrpc.Client
}

// container is a container of it, with the caller's ends of the fifos.
type container struct {
	*sandbox
	id      string
	bundle  string
	streams *callerStreams
}

// startShim runs the command start as CRI-O does and connects to what it prints.
func startShim(t *testing.T, bundle, id string) (address string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), built.shim, "-namespace", "default", "-address", "",
		"-publish-binary", "/bin/true", "-id", id, "start")
	cmd.Dir = bundle
	out, err := cmd.CombinedOutput()
	must(t, err)
	address = strings.TrimSpace(string(out))
	if !strings.HasPrefix(address, "unix:///") {
		t.Fatalf("start printed %q", out)
	}
	file, err := os.ReadFile(filepath.Join(bundle, "address"))
	must(t, err)
	if string(file) != address {
		t.Fatalf("file address has %q, start printed %q", file, address)
	}
	return address
}

// newSandbox starts a shim and creates and starts the sandbox container from volumes.
func newSandbox(t *testing.T, id string, rootfs []*types.Mount) *sandbox {
	t.Helper()
	return newSandboxWith(t, id, rootfs, args("/bin/sleep", "1000000"))
}

// newSandboxWith is newSandbox with another configuration.
func newSandboxWith(t *testing.T, id string, rootfs []*types.Mount, change func(*specs.Spec)) *sandbox {
	t.Helper()
	s := &sandbox{T: t, id: id}
	bundle := s.writeBundle(id, "sandbox", change)
	address := startShim(t, bundle, id)
	t.Cleanup(func() { removeSandbox(t, bundle, id) })
	conn, err := net.Dial("unix", strings.TrimPrefix(address, "unix://"))
	must(t, err)
	s.conn = ttrpc.NewClient(conn)
	t.Cleanup(func() { s.conn.Close() })
	s.task = taskapi.NewTaskClient(s.conn)
	c := &container{sandbox: s, id: id, bundle: bundle, streams: openCallerStreams(t, false, false)}
	must(t, c.create(rootfs, false))
	c.start()
	return s
}

// removeSandbox is for tests that failed: those that did not have shut the sandbox down themselves.
func removeSandbox(t *testing.T, bundle, id string) {
	dumpLogs(t, id)
	cmd := exec.Command(built.shim, "-namespace", "default", "-publish-binary", "/bin/true", "-id", id, "delete")
	cmd.Dir = bundle
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("ERROR")) {
		t.Errorf("delete: %v: %q", err, out)
	}
}

// dumpLogs shows the logs of a sandbox whose test failed, as long as they are there.
func dumpLogs(t *testing.T, id string) {
	if t.Failed() {
		log, _ := os.ReadFile(filepath.Join(shim.Root(), id, "shim.log"))
		console, _ := os.ReadFile(filepath.Join(shim.Root(), id, "console.log"))
		t.Logf("shim.log:\n%s\nconsole.log:\n%s", log, console)
	}
}

// writeBundle writes a bundle with a configuration like CRI-O's.
func (s *sandbox) writeBundle(id, kind string, change func(*specs.Spec)) string {
	s.Helper()
	bundle := s.TempDir()
	hosts := filepath.Join(bundle, "hosts")
	must(s.T, os.WriteFile(hosts, []byte("127.0.0.1 localhost of "+id+"\n"), 0o644))
	secret := filepath.Join(bundle, "secret")
	must(s.T, os.MkdirAll(filepath.Join(secret, "..data"), 0o755))
	must(s.T, os.WriteFile(filepath.Join(secret, "..data", "token"), []byte("sesame"), 0o600))
	must(s.T, os.Symlink("..data/token", filepath.Join(secret, "token")))
	spec := &specs.Spec{
		Version: specs.Version, Hostname: "host-of-" + id, Root: &specs.Root{Path: filepath.Join(bundle, "rootfs")},
		Process: &specs.Process{Cwd: "/", Env: []string{"PATH=/bin", "GREETING=hello"}, Capabilities: defaultCapabilities()},
		Annotations: map[string]string{
			"io.kubernetes.cri-o.ContainerType": kind, "io.kubernetes.cri-o.SandboxID": s.id,
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs",
				Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
				Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
				Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
			{Destination: "/dev/shm", Type: "bind", Source: filepath.Join(bundle, "shm"), Options: []string{"rw", "bind"}},
			{Destination: "/etc/hosts", Type: "bind", Source: hosts, Options: []string{"rw", "rbind", "rprivate"}},
			{Destination: "/run/secrets/it", Type: "bind", Source: secret, Options: []string{"ro", "rbind", "rprivate"}},
		},
		Linux: &specs.Linux{
			MaskedPaths: []string{"/proc/kcore", "/proc/absent"}, ReadonlyPaths: []string{"/proc/sys"},
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace, Path: "/var/run/netns/x"},
			},
		},
	}
	change(spec)
	b, err := json.Marshal(spec)
	must(s.T, err)
	must(s.T, os.WriteFile(filepath.Join(bundle, "config.json"), b, 0o600))
	return bundle
}

func defaultCapabilities() *specs.LinuxCapabilities {
	caps := []string{"CAP_CHOWN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	return &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}

// container prepares a container of the sandbox; its process is args.
func (s *sandbox) container(id string, change func(*specs.Spec), stdin bool) *container {
	s.Helper()
	bundle := s.writeBundle(id, "container", change)
	startShim(s.T, bundle, id)
	return &container{sandbox: s, id: id, bundle: bundle, streams: openCallerStreams(s.T, stdin, false)}
}

func (c *container) create(rootfs []*types.Mount, terminal bool) error {
	f := c.streams.config
	resp, err := c.task.Create(c.Context(), &taskapi.CreateTaskRequest{ID: c.id, Bundle: c.bundle, Rootfs: rootfs,
		Stdin: f[0], Stdout: f[1], Stderr: f[2], Terminal: terminal})
	if err == nil && unix.Kill(int(resp.Pid), 0) != nil {
		c.Fatalf("process %d of the answer does not live", resp.Pid)
	}
	return err
}

func (c *container) start() {
	c.Helper()
	_, err := c.task.Start(c.Context(), &taskapi.StartRequest{ID: c.id})
	must(c.T, err)
}

func (c *container) wait(execID string) uint32 {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	resp, err := c.task.Wait(ctx, &taskapi.WaitRequest{ID: c.id, ExecID: execID})
	must(c.T, err)
	return resp.ExitStatus
}

// remove deletes the container as CRI-O does.
func (c *container) remove() {
	c.Helper()
	_, err := c.task.Delete(c.Context(), &taskapi.DeleteRequest{ID: c.id})
	must(c.T, err)
	_, err = c.task.Shutdown(c.Context(), &taskapi.ShutdownRequest{ID: c.id})
	// A shim that has nothing left may be gone before its answer is out; CRI-O expects that, too (internal/oci/
	// runtime_vm.go, remove).
	if !errors.Is(err, ttrpc.ErrClosed) {
		must(c.T, err)
	}
}

// exec runs a process and returns its output and status.
func (c *container) exec(id string, input []byte, args ...string) (out, errOut string, status uint32) {
	c.Helper()
	p := &specs.Process{Cwd: "/", Env: []string{"PATH=/bin"}, Args: args}
	streams := openCallerStreams(c.T, input != nil, false)
	c.execWith(id, p, streams, false)
	if input != nil {
		_, err := streams.stdin.Write(input)
		must(c.T, err)
		must(c.T, streams.stdin.Close())
		_, err = c.task.CloseIO(c.Context(), &taskapi.CloseIORequest{ID: c.id, ExecID: id, Stdin: true})
		must(c.T, err)
	}
	status = c.wait(id)
	_, err := c.task.Delete(c.Context(), &taskapi.DeleteRequest{ID: c.id, ExecID: id})
	must(c.T, err)
	return streams.stdout.text(c.T), streams.stderr.text(c.T), status
}

func (c *container) execWith(id string, p *specs.Process, streams *callerStreams, terminal bool) {
	c.Helper()
	spec, err := typeurl.MarshalAnyToProto(p)
	must(c.T, err)
	f := streams.config
	_, err = c.task.Exec(c.Context(), &taskapi.ExecProcessRequest{ID: c.id, ExecID: id, Spec: spec,
		Stdin: f[0], Stdout: f[1], Stderr: f[2], Terminal: terminal})
	must(c.T, err)
	_, err = c.task.Start(c.Context(), &taskapi.StartRequest{ID: c.id, ExecID: id})
	must(c.T, err)
}

func init() {
	typeurl.Register(&specs.Process{}, "types.containerd.io", "opencontainers/runtime-spec", "1", "Process")
}
