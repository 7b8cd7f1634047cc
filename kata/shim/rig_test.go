package shim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// Programs built by TestMain, in a directory of their own, named as on a real node.
var binDir, interposer string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "shim-bin-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		binDir, interposer = dir, filepath.Join(dir, "containerd-shim-kata-erofs-v2")
		for out, pkg := range map[string]string{
			interposer: "../../cmd/containerd-shim-kata-erofs-v2",
			filepath.Join(dir, "containerd-shim-kata-v2"): "./internal/testshim",
		} {
			if b, err := exec.Command("go", "build", "-o", out, pkg).CombinedOutput(); err != nil {
				panic(fmt.Sprintf("go build %s: %v\n%s", pkg, err, b))
			}
		}
		// Daemons become children of this process and not of init, so that a leak and a zombie show.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// rig is a node with the interposer and a real shim, the test peer.
type rig struct {
	testing.TB
	dir string // short: socket paths are
	run string // the interposer's run directory
	env []string
}

func newRig(t testing.TB) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sh-")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{TB: t, dir: dir, run: filepath.Join(dir, "r")}
	for _, d := range []string{r.peerDir(), r.run} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// The fixtures have no image volumes, and image-verity comes first by default.
	config := filepath.Join(r.dir, "config.toml")
	if err := os.WriteFile(config, []byte("[handlers.kata-erofs]\nmodes = [\"layer-verity\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// As CRI-O does (containerd 1.7, runtime/v2/shim/util.go).
	r.env = append(os.Environ(), "GOMAXPROCS=2", "MAX_SHIM_VERSION=2", "TTRPC_ADDRESS=", "GRPC_ADDRESS=",
		"NAMESPACE=default", envRunDir+"="+r.run, modes.Environment+"="+config, "TESTSHIM_DIR="+r.peerDir(),
		"TESTSHIM_VERSION=Kata Containers containerd shim (Rust): id: io.containerd.kata.v2, version: 4.1.0, commit: test")
	t.Cleanup(r.nothingLeft)
	return r
}

func (r *rig) peerDir() string { return filepath.Join(r.dir, "p") }

// fixture makes a container of a pod; the pod's own has the same id.
func (r *rig) fixture(id, sandbox string) *fixture {
	r.Helper()
	kind := "container"
	if id == sandbox {
		kind = containerTypeSandbox
	}
	return newFixture(r, filepath.Join(r.dir, "s"), id, kind, sandbox, 2)
}

// start runs the interposer's start as CRI-O does.
func (r *rig) start(f *fixture, env ...string) (string, error) {
	r.Helper()
	cmd := exec.Command(interposer, "-namespace", "default", "-address", "", "-publish-binary", "/usr/bin/crio",
		"-id", f.id, "start")
	cmd.Dir, cmd.Env = f.bundle, append(r.env[:len(r.env):len(r.env)], env...)
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return string(out), nil
}

func (r *rig) mustStart(f *fixture, env ...string) string {
	r.Helper()
	address, err := r.start(f, env...)
	if err != nil {
		r.Fatal(err)
	}
	return address
}

// client is a connection as CRI-O makes one per container.
type client struct {
	task.TaskService
	ttrpc *ttrpc.Client
}

func (r *rig) connect(address string) *client {
	r.Helper()
	conn, err := net.Dial("unix", strings.TrimPrefix(address, unixScheme))
	if err != nil {
		r.Fatal(err)
	}
	c := ttrpc.NewClient(conn)
	r.Cleanup(func() { c.Close() })
	return &client{task.NewTaskClient(c), c}
}

// pod starts a pod and returns its client.
func (r *rig) pod(id string) (*fixture, string, *client) {
	r.Helper()
	f := r.fixture(id, id)
	address := r.mustStart(f)
	return f, address, r.connect(address)
}

func (f *fixture) request() *task.CreateTaskRequest {
	return &task.CreateTaskRequest{ID: f.id, Bundle: f.bundle, Stdout: "/fifo"}
}

func (r *rig) mustCreate(c *client, f *fixture) {
	r.Helper()
	if _, err := c.Create(ctx(r.TB), f.request()); err != nil {
		r.Fatal(err)
	}
}

// received is the create that the real shim got.
func (r *rig) received(id string) *task.CreateTaskRequest {
	r.Helper()
	b, err := os.ReadFile(filepath.Join(r.peerDir(), "create-"+id+".json"))
	if err != nil {
		r.Fatal(err)
	}
	var wire []byte
	if err := json.Unmarshal(b, &wire); err != nil {
		r.Fatal(err)
	}
	req := &task.CreateTaskRequest{}
	if err := proto.Unmarshal(wire, req); err != nil {
		r.Fatal(err)
	}
	return req
}

// shutdown ends a pod as CRI-O does.
func (r *rig) shutdown(c *client, id string) {
	r.Helper()
	if _, err := c.Shutdown(ctx(r.TB), &task.ShutdownRequest{ID: id, Now: true}); !errors.Is(err, ttrpc.ErrClosed) {
		r.Errorf("shutdown of %s: %v, want %v", id, err, ttrpc.ErrClosed)
	}
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return c
}

// eventually waits for something that another process does, on a machine whose disk may be busy with other tests.
func (r *rig) eventually(what string, done func() bool) {
	r.Helper()
	const limit = 20 * time.Second
	for start := time.Now(); time.Since(start) < limit; time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
	}
	r.Errorf("after %v still not: %s", limit, what)
}

// left returns what is in the run directory: pod directories, and sockets for events.
func (r *rig) left() (dirs, sockets []string) {
	all, err := filepath.Glob(filepath.Join(r.run, "*"))
	if err != nil {
		r.Fatal(err)
	}
	for _, path := range all {
		if strings.HasSuffix(path, eventsSuffix) {
			sockets = append(sockets, path)
		} else {
			dirs = append(dirs, path)
		}
	}
	return dirs, sockets
}

// nothingLeft is at the end of every test: no process, no socket, no file in the run directory.
func (r *rig) nothingLeft() {
	r.eventually("run directory is empty", func() bool {
		dirs, sockets := r.left()
		return len(dirs)+len(sockets) == 0
	})
	r.eventually("daemons are gone", func() bool { return len(r.processes()) == 0 })
	for _, pid := range r.processes() {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	sockets, err := filepath.Glob(filepath.Join(r.peerDir(), "*.sock"))
	if err != nil || len(sockets) > 0 {
		r.Errorf("real shims' sockets left: %v, %v", sockets, err)
	}
	if r.Failed() {
		logs, _ := filepath.Glob(filepath.Join(r.run, "*", logFile))
		for _, l := range logs {
			b, _ := os.ReadFile(l)
			r.Logf("%s:\n%s", l, b)
		}
	}
	if err := os.RemoveAll(r.dir); err != nil {
		r.Error(err)
	}
}

// processes returns the daemons of this rig, found by their environment, after reaping those that have ended.
func (r *rig) processes() (pids []int) {
	for {
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || pid <= 0 {
			break
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		r.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err == nil && bytes.Contains(env, []byte(envRunDir+"="+r.run+"\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// process returns the pid of the daemon whose command line has an argument.
func (r *rig) process(arg string) int {
	r.Helper()
	for _, pid := range r.processes() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.Contains(string(b), "\x00"+arg+"\x00") {
			return pid
		}
	}
	r.Fatalf("no process with the argument %s", arg)
	return 0
}

// kill ends a daemon and waits until nothing of it is left.
func (r *rig) kill(pid int, how unix.Signal) {
	r.Helper()
	if err := unix.Kill(pid, how); err != nil {
		r.Fatal(err)
	}
	r.eventually("daemon is dead", func() bool {
		r.processes() // reaps
		return errors.Is(unix.Kill(pid, 0), unix.ESRCH)
	})
}
