package shim

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStart(t *testing.T) {
	r := newRig(t)
	pod, address, c := r.pod("pod")
	if !strings.HasPrefix(address, unixScheme+r.run+"/") || len(address)-len(unixScheme) > maxSocketPath {
		t.Errorf("address is %q", address)
	}
	r.checkAddressFile(pod, address)
	fi, err := os.Stat(strings.TrimPrefix(address, unixScheme))
	pod.must(err)
	if fi.Mode().Perm() != 0o600 {
		t.Errorf("socket has mode %v", fi.Mode())
	}
	for i := range 2 {
		ctr := r.fixture(fmt.Sprintf("ctr%d", i), "pod")
		if got := r.mustStart(ctr); got != address {
			t.Errorf("container %d has address %q, its pod %q", i, got, address)
		}
		r.checkAddressFile(ctr, address)
	}
	if got := r.mustStart(pod); got != address {
		t.Errorf("second start says %q, the first %q", got, address)
	}
	r.eventually("there are two daemons, the real shim's and one proxy", func() bool { return len(r.processes()) == 2 })
	r.shutdown(c, "pod")
}

func (r *rig) checkAddressFile(f *fixture, want string) {
	r.Helper()
	b, err := os.ReadFile(filepath.Join(f.bundle, addressFile))
	f.must(err)
	if string(b) != want {
		r.Errorf("address file of %s has %q, want %q", f.id, b, want)
	}
}

// TestStartPassesEverythingOn: the real shim must see what CRI-O gave.
func TestStartPassesEverythingOn(t *testing.T) {
	r := newRig(t)
	pod := r.fixture("pod", "pod")
	address := r.mustStart(pod, "FROM_CRIO=yes")
	got := r.startCall("pod")
	want := []string{"-namespace", "default", "-address", "", "-publish-binary", "/usr/bin/crio", "-id", "pod", "start"}
	if !slices.Equal(got.Args, want) || got.Cwd != pod.bundle || !slices.Contains(got.Env, "FROM_CRIO=yes") ||
		!slices.Contains(got.Env, "TTRPC_ADDRESS="+r.eventsSocket()) {
		t.Errorf("real shim got %+v", got)
	}
	r.shutdown(r.connect(address), "pod")
}

// startCall is how the real shim's start was called.
type startCall struct {
	Args, Env []string
	Cwd       string
}

func (r *rig) startCall(id string) (call startCall) {
	r.Helper()
	b, err := os.ReadFile(filepath.Join(r.peerDir(), "start-"+id+".json"))
	if err == nil {
		err = json.Unmarshal(b, &call)
	}
	if err != nil {
		r.Fatal(err)
	}
	return call
}

// TestStartOutput: CRI-O takes stdout and stderr together for the address.
func TestStartOutput(t *testing.T) {
	for _, mode := range []string{"noise", "holdpipe"} {
		t.Run(mode, func(t *testing.T) {
			r := newRig(t)
			pod := r.fixture("pod", "pod")
			begin := time.Now()
			address := r.mustStart(pod, "TESTSHIM_START="+mode)
			if strings.ContainsAny(address, " \n") || time.Since(begin) > 5*time.Second {
				t.Errorf("output %q after %v", address, time.Since(begin))
			}
			r.shutdown(r.connect(address), "pod")
		})
	}
}

func TestStartFails(t *testing.T) {
	for _, c := range []struct {
		name, env, want string
	}{
		{"exit status", "TESTSHIM_START=fail", "cannot start: no such kernel"},
		{"nothing printed, status 0", "TESTSHIM_START=empty", "ERROR: no such hypervisor"},
		{"no real shim", envRealShim + "=/nonexistent/shim", "stat /nonexistent/shim: no such file or directory"},
		{"relative real shim", envRealShim + "=shim", "is not an absolute path"},
		{"itself", envRealShim + "=" + interposer, "is this program itself"},
		{"relative run directory", envRunDir + "=run", "is not an absolute path"},
		{"run directory too long", envRunDir + "=/tmp/" + strings.Repeat("x", 90), "longer than 106 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			pod := r.fixture("pod", "pod")
			out, err := r.start(pod, c.env)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q, error %v, want %q in it", out, err, c.want)
			}
		})
	}
}

// TestRealShimNotInstalled: name and directory of the real shim follow from ours.
func TestRealShimNotInstalled(t *testing.T) {
	r := newRig(t)
	dir := filepath.Join(r.dir, "bin")
	pod := r.fixture("pod", "pod")
	pod.mkdir(dir)
	for name, want := range map[string]string{
		"containerd-shim-kata-qemu-erofs-v2": "no containerd-shim-kata-qemu-v2 in PATH",
		"containerd-shim-kata-v2":            `the handler's name "kata" has no "-erofs"`,
		"crio-erofs-shim":                    `the program's name "crio-erofs-shim" is not containerd-shim-HANDLER-v2`,
	} {
		program := filepath.Join(dir, name)
		pod.must(os.Link(interposer, program))
		out, err := exec.Command(program, "-id", "x", "start").CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, %q; want %q in it", name, err, out, want)
		}
	}
	// In PATH is good enough.
	pod.must(os.Link(filepath.Join(binDir, "containerd-shim-kata-v2"),
		filepath.Join(pod.bundle, "containerd-shim-kata-qemu-v2")))
	cmd := exec.Command(filepath.Join(dir, "containerd-shim-kata-qemu-erofs-v2"), "--version")
	cmd.Env = append(r.env, "PATH="+pod.bundle)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Kata Containers") {
		t.Errorf("%v, %q", err, out)
	}
}

func TestOtherActionsAreTheRealShims(t *testing.T) {
	r := newRig(t)
	run := func(args ...string) (stdout, stderr string, code int) {
		t.Helper()
		var o, e strings.Builder
		cmd := exec.Command(interposer, args...)
		cmd.Env, cmd.Dir = r.env, r.dir
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("input"), &o, &e
		_ = cmd.Run()
		return o.String(), e.String(), cmd.ProcessState.ExitCode()
	}
	for _, args := range [][]string{{"-namespace", "default", "-id", "start", "delete"}, {"-info"}} {
		stdout, stderr, code := run(args...)
		want := fmt.Sprintf("args=%q stdin=%q cwd=%q", args, "input", r.dir)
		if stdout != want || stderr != "said on stderr" || code != 0 {
			t.Errorf("%q: %q, %q, %d; want %q", args, stdout, stderr, code, want)
		}
	}
	if stdout, stderr, code := run("features"); stdout != "" || stderr != `unknown action "features"` || code != 3 {
		t.Errorf("features: %q, %q, %d", stdout, stderr, code)
	}
	if stdout, _, code := run("--version"); code != 0 ||
		!strings.HasPrefix(stdout, "Kata Containers containerd shim (Rust)") ||
		!strings.Contains(stdout, "\ncrio-erofs containerd shim interposer, version: ") {
		t.Errorf("--version: %q, %d", stdout, code)
	}
	// Whoever types the internal argument gets told, and no daemon.
	if _, stderr, code := run(daemonArg, r.run); code != 1 || !strings.Contains(stderr, "internal use") {
		t.Errorf("%s: %q, %d", daemonArg, stderr, code)
	}
}

func TestProxyIsStartedAgain(t *testing.T) {
	r := newRig(t)
	_, address, _ := r.pod("pod")
	ctr := r.fixture("ctr", "pod")
	r.mustStart(ctr)
	proxy := r.process(daemonArg)
	for i, how := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
		r.kill(proxy, how)
		next := r.fixture(fmt.Sprintf("next%d", i), "pod")
		if got := r.mustStart(next); got != address {
			t.Errorf("address is %q, was %q", got, address)
		}
		r.mustCreate(r.connect(address), next)
		proxy = r.process(daemonArg)
	}
	r.kill(proxy, unix.SIGKILL)
	cmd := exec.Command(interposer, restoreArg)
	cmd.Env = r.env
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%s: %v, %s", restoreArg, err, out)
	}
	c := r.connect(address)
	r.mustCreate(c, ctr)
	r.shutdown(c, "pod")
}

// TestLeftoversAreSwept: proxy and real shim were killed together, as when a machine's control group is.
func TestLeftoversAreSwept(t *testing.T) {
	r := newRig(t)
	r.pod("dead")
	for _, arg := range []string{daemonArg, "daemon"} {
		r.kill(r.process(arg), unix.SIGKILL)
	}
	dead, deadSocket := r.left()
	if len(dead) != 1 || len(deadSocket) != 1 {
		t.Fatalf("%q and %q", dead, deadSocket)
	}
	_, _, c := r.pod("next")
	r.eventually("only the living pod's directory and socket are left", func() bool {
		dirs, sockets := r.left()
		return len(dirs) == 1 && dirs[0] != dead[0] && len(sockets) == 1 && sockets[0] != deadSocket[0]
	})
	r.shutdown(c, "next")
}

// TestProxyDiesWhileItStartsAProgram: a child that is about to become that program has its lock and its socket a little
// longer. Whoever comes then gets a new proxy, not the address of none.
func TestProxyDiesWhileItStartsAProgram(t *testing.T) {
	r := newRig(t)
	_, address, _ := r.pod("pod")
	r.kill(r.process(daemonArg), unix.SIGKILL)
	socket := strings.TrimPrefix(address, unixScheme)
	lock, err := lockedFile(filepath.Join(filepath.Dir(socket), aliveFile), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		t.Fatal(err)
	}
	l, err := listenAnew(socket)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(300*time.Millisecond, func() { l.Close(); lock.Close() })
	ctr := r.fixture("ctr", "pod")
	c := r.connect(r.mustStart(ctr))
	r.mustCreate(c, ctr)
	r.shutdown(c, "pod")
}

// TestManyStartsMakeOneProxy: all find it dead.
func TestManyStartsMakeOneProxy(t *testing.T) {
	r := newRig(t)
	_, address, _ := r.pod("pod")
	r.kill(r.process(daemonArg), unix.SIGKILL)
	var wg sync.WaitGroup
	for i := range 10 {
		ctr := r.fixture(fmt.Sprintf("ctr%d", i), "pod")
		wg.Go(func() {
			if got, err := r.start(ctr); err != nil || got != address {
				t.Errorf("%q, %v; want %q", got, err, address)
			}
		})
	}
	wg.Wait()
	r.eventually("there is one proxy", func() bool { return len(r.processes()) == 2 })
	r.shutdown(r.connect(address), "pod")
}

// TestSocketRemoved: the daemon cannot be reached any more, but living connections go through it.
func TestSocketRemoved(t *testing.T) {
	r := newRig(t)
	_, address, c := r.pod("pod")
	if err := os.Remove(strings.TrimPrefix(address, unixScheme)); err != nil {
		t.Fatal(err)
	}
	if out, err := r.start(r.fixture("ctr", "pod")); err == nil || !strings.Contains(err.Error(), "cannot be reached") {
		t.Errorf("%q, %v", out, err)
	}
	r.shutdown(c, "pod")
}

// TestContainerOfDeadPod: a real shim prints the address without looking whether anybody is there.
func TestContainerOfDeadPod(t *testing.T) {
	r := newRig(t)
	_, _, c := r.pod("pod")
	r.shutdown(c, "pod")
	r.eventually("all gone", func() bool { return len(r.processes()) == 0 })
	if out, err := r.start(r.fixture("ctr", "pod")); err == nil || !strings.Contains(err.Error(), "no pod of this address is known") {
		t.Errorf("%q, %v", out, err)
	}
}
