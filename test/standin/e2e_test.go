package standin_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v2"
	tasktypes "github.com/containerd/containerd/api/types/task"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/shim"
)

func args(argv ...string) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Process.Args = argv }
}

func shell(script string) func(*specs.Spec) { return args("/bin/sh", "-c", script) }

// TestPod drives one pod through all that a VM is not needed anew for.
func TestPod(t *testing.T) {
	needVM(t)
	lower, upper := makeVolume(t, "lower", busybox(t)), makeVolume(t, "upper", application(t))
	s := newSandbox(t, "pod", rootfsOf(t, lower))

	t.Run("layers, configuration and exit code", func(t *testing.T) { testLayers(t, s, lower, upper) })
	t.Run("exec", func(t *testing.T) { testExec(t, s, lower, upper) })
	t.Run("terminal", func(t *testing.T) { testTerminal(t, s, lower) })
	t.Run("input and large output", func(t *testing.T) { testInput(t, s, lower) })
	t.Run("user and read-only root", func(t *testing.T) { testUser(t, s, lower) })
	t.Run("kill", func(t *testing.T) { testKill(t, s, lower) })
	t.Run("many at once", func(t *testing.T) { testConcurrent(t, s, lower, upper) })
	t.Run("128 layers", func(t *testing.T) { testManyLayers(t, s, lower, upper) })
	t.Run("pause", func(t *testing.T) { testPause(t, s, lower) })
	t.Run("errors", func(t *testing.T) { testErrors(t, s, lower) })
	t.Run("tampered volumes", func(t *testing.T) { testTamper(t, s, lower, upper) })
	t.Run("guest's own words", func(t *testing.T) { testGuestInfo(t, s, lower, upper) })
	t.Run("shutdown", func(t *testing.T) { testShutdown(t, s) })
}

// with lets a helper's failures stop the running subtest.
func (s *sandbox) with(t *testing.T) *sandbox {
	c := *s
	c.T = t
	return &c
}

func testLayers(t *testing.T, s *sandbox, lower, upper *volume) {
	c := s.with(t).container("layers", shell(`cat /etc/layer; test -e /etc/gone || echo "whiteout works"
		echo "$GREETING from $(hostname), pid $$"; cat /etc/hosts /run/secrets/it/token; echo; sha256sum </data
		echo w >/written && cat /written; touch /run/secrets/it/x || true; echo err >&2
		test -c /dev/null -a -e /dev/pts/ptmx -a -d /dev/shm && ls /sys/fs/cgroup/cgroup.procs; exit 7`), false)
	must(t, c.create(rootfsOf(t, upper, lower), false))
	state, err := s.task.State(t.Context(), &taskapi.StateRequest{ID: c.id})
	must(t, err)
	if state.Status != tasktypes.Status_CREATED || state.Stdout != c.streams.config[1] {
		t.Errorf("state before start: %v", state)
	}
	c.start()
	if got := c.wait(""); got != 7 {
		t.Errorf("exit status %d, want 7", got)
	}
	state, err = s.task.State(t.Context(), &taskapi.StateRequest{ID: c.id})
	must(t, err)
	if state.Status != tasktypes.Status_STOPPED || state.ExitStatus != 7 {
		t.Errorf("state after the end: %v", state)
	}
	c.remove()
	data, err := os.ReadFile(filepath.Join(filepath.Dir(upper.path), "tree", "data"))
	must(t, err)
	want := fmt.Sprintf("upper\nwhiteout works\nhello from host-of-layers, pid 1\n127.0.0.1 localhost of layers\nsesame\n"+
		"%x  -\nw\n/sys/fs/cgroup/cgroup.procs\n", sha256.Sum256(data))
	if got := c.streams.stdout.text(t); got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	errOut := c.streams.stderr.text(t)
	if !strings.HasSuffix(errOut, "err\n") || !strings.Contains(errOut, "Read-only file system") {
		t.Errorf("errors %q", errOut)
	}
	if _, err := os.Stat(filepath.Join(shim.Root(), s.id, c.id)); !os.IsNotExist(err) {
		t.Errorf("the disk's files were left: %v", err)
	}
}

func testExec(t *testing.T, s *sandbox, lower, upper *volume) {
	c := s.with(t).container("exec", args("sleep", "1000"), false)
	must(t, c.create(rootfsOf(t, upper, lower), false))
	c.start()
	out, errOut, status := c.exec("e1", nil, "sh", "-c", "cat /etc/layer; echo $HOME >&2; exit 3")
	if out != "upper\n" || errOut != "/\n" || status != 3 {
		t.Errorf("exec: %q, %q, %d", out, errOut, status)
	}
	// In the PID namespace of the container, whose process 1 it sees.
	out, _, status = c.exec("e2", nil, "cat", "/proc/1/cmdline")
	if out != "sleep\x001000\x00" || status != 0 {
		t.Errorf("exec: %q, %d", out, status)
	}
	if out, _, status = c.exec("e3", []byte("to cat"), "cat"); out != "to cat" || status != 0 {
		t.Errorf("exec with input: %q, %d", out, status)
	}
	// A child that outlives the process and keeps its output open does not hold up the end.
	began := time.Now()
	if out, _, status = c.exec("e4", nil, "sh", "-c", "sleep 100 & echo done"); out != "done\n" || status != 0 {
		t.Errorf("exec with a child: %q, %d", out, status)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the end of a process with a child took %v", took)
	}
	stats, err := s.task.Stats(t.Context(), &taskapi.StatsRequest{ID: c.id})
	must(t, err)
	if stats.Stats.TypeUrl != "io.containerd.cgroups.v2.Metrics" {
		t.Errorf("stats are of type %q", stats.Stats.TypeUrl)
	}
	pids, err := s.task.Pids(t.Context(), &taskapi.PidsRequest{ID: c.id})
	must(t, err)
	if len(pids.Processes) != 2 {
		t.Errorf("processes %v, want the first one and the child that was left", pids.Processes)
	}
	c.remove()
}

func testTerminal(t *testing.T, s *sandbox, lower *volume) {
	c := s.with(t).container("tty", args("sleep", "1000"), false)
	must(t, c.create(rootfsOf(t, lower), false))
	c.start()
	streams := openCallerStreams(t, true, true)
	p := &specs.Process{Cwd: "/", Env: []string{"PATH=/bin"},
		Args: []string{"sh", "-c", "test -t 0 && echo tty; cat; stty size"}}
	c.execWith("t1", p, streams, true)
	_, err := s.task.ResizePty(t.Context(), &taskapi.ResizePtyRequest{ID: c.id, ExecID: "t1", Width: 132, Height: 43})
	must(t, err)
	_, err = streams.stdin.Write([]byte("line\n\x04")) // the terminal turns ^D into the end
	must(t, err)
	if status := c.wait("t1"); status != 0 {
		t.Errorf("exit status %d", status)
	}
	must(t, streams.stdin.Close())
	// The line comes twice: as the terminal's echo, which may be the first of all, and from cat.
	got := streams.stdout.text(t)
	if !strings.Contains(got, "tty\r\n") || strings.Count(got, "line\r\n") != 2 || !strings.HasSuffix(got, "43 132\r\n") {
		t.Errorf("terminal: %q", got)
	}
	c.remove()
}

func testInput(t *testing.T, s *sandbox, lower *volume) {
	c := s.with(t).container("input", shell("wc -c; seq 1 50000"), true)
	must(t, c.create(rootfsOf(t, lower), false))
	c.start()
	_, err := c.streams.stdin.Write(make([]byte, 300<<10))
	must(t, err)
	must(t, c.streams.stdin.Close())
	_, err = s.task.CloseIO(t.Context(), &taskapi.CloseIORequest{ID: c.id, Stdin: true})
	must(t, err)
	if status := c.wait(""); status != 0 {
		t.Errorf("exit status %d", status)
	}
	c.remove()
	var want strings.Builder
	fmt.Fprintln(&want, 300<<10)
	for i := range 50000 {
		fmt.Fprintln(&want, i+1)
	}
	if got := c.streams.stdout.text(t); got != want.String() {
		t.Errorf("%d bytes of output, want %d", len(got), want.Len())
	}
}

func testUser(t *testing.T, s *sandbox, lower *volume) {
	c := s.with(t).container("user", func(spec *specs.Spec) {
		shell("id; pwd; echo $HOME; cat /proc/self/status | head -60; touch /x; ulimit -n")(spec)
		spec.Root.Readonly = true
		spec.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{2000, 3000}}
		spec.Process.Cwd = "/work/dir"
		spec.Process.NoNewPrivileges = true
		spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 123, Hard: 456}}
	}, false)
	must(t, c.create(rootfsOf(t, lower), false))
	c.start()
	c.wait("")
	c.remove()
	out := c.streams.stdout.text(t)
	for _, want := range []string{"uid=1000(app) gid=1000 groups=2000,3000\n", "/work/dir\n", "/home/app\n",
		"NoNewPrivs:\t1\n", "CapEff:\t0000000000000000\n", "CapBnd:\t00000000000004e1\n", "\n123\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("output has no %q: %s", want, out)
		}
	}
	if got := c.streams.stderr.text(t); !strings.Contains(got, "/x: Read-only file system") {
		t.Errorf("errors %q", got)
	}
}

func testKill(t *testing.T, s *sandbox, lower *volume) {
	c := s.with(t).container("kill", shell(`trap 'exit 5' USR1; echo ready; while :; do sleep 0.1; done`), false)
	must(t, c.create(rootfsOf(t, lower), false))
	c.start()
	time.Sleep(time.Second) // until the trap is set
	_, err := s.task.Kill(t.Context(), &taskapi.KillRequest{ID: c.id, Signal: uint32(unix.SIGUSR1)})
	must(t, err)
	if got := c.wait(""); got != 5 {
		t.Errorf("exit status %d after SIGUSR1, want 5", got)
	}
	c.remove()
	for name, sig := range map[string]unix.Signal{"term": unix.SIGTERM, "kill9": unix.SIGKILL} {
		c := s.with(t).container(name, args("sleep", "1000"), false)
		must(t, c.create(rootfsOf(t, lower), false))
		c.start()
		_, err := s.task.Kill(t.Context(), &taskapi.KillRequest{ID: c.id, Signal: uint32(sig)})
		must(t, err)
		// A first process that does not handle SIGTERM is killed by Kata's agent.
		if got := c.wait(""); got != 137 {
			t.Errorf("exit status %d after signal %d, want 137", got, sig)
		}
		c.remove()
	}
}

// testConcurrent runs containers at the same time; each has its own disk and upper directory.
func testConcurrent(t *testing.T, s *sandbox, lower, upper *volume) {
	var group sync.WaitGroup
	for i := range 6 {
		id := fmt.Sprintf("many%d", i)
		c := s.with(t).container(id, shell("echo $(hostname) >/mine; sleep 0.5; cat /mine /etc/layer"), false)
		mounts := rootfsOf(t, upper, lower)
		group.Go(func() {
			if err := c.create(mounts, false); err != nil {
				t.Error(err)
				return
			}
			if _, err := s.task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
				t.Error(err)
			}
			if _, err := s.task.Wait(t.Context(), &taskapi.WaitRequest{ID: id}); err != nil {
				t.Error(err)
			}
			if _, err := s.task.Delete(t.Context(), &taskapi.DeleteRequest{ID: id}); err != nil {
				t.Error(err)
			}
			<-c.streams.stdout.done
			if got, want := c.streams.stdout.buf.String(), "host-of-"+id+"\nupper\n"; got != want {
				t.Errorf("output %q, want %q", got, want)
			}
		})
	}
	group.Wait()
}

// testManyLayers has as many layers as a disk has partitions. Their paths alone are more than mount(2) takes.
func testManyLayers(t *testing.T, s *sandbox, lower, upper *volume) {
	var layers []*volume
	for range 127 {
		layers = append(layers, upper)
	}
	c := s.with(t).container("layers128", shell("cat /etc/layer; grep -c lower- /proc/mounts || true"), false)
	must(t, c.create(rootfsOf(t, append(layers, lower)...), false))
	c.start()
	c.wait("")
	info, err := shim.GuestInfo(t.Context(), s.id, 0)
	must(t, err)
	c.remove()
	if got := c.streams.stdout.text(t); !strings.HasPrefix(got, "upper\n") {
		t.Errorf("output %q", got)
	}
	if len(info.DM) != 129 { // and that of the sandbox
		t.Errorf("%d dm devices, want 129", len(info.DM))
	}
	c = s.with(t).container("layers129", shell("true"), false)
	if err := c.create(rootfsOf(t, append(layers, lower, lower)...), false); err == nil ||
		!strings.Contains(err.Error(), "exceeds maximum 128 partitions") {
		t.Errorf("129 layers: %v", err)
	}
}

func testPause(t *testing.T, s *sandbox, lower *volume) {
	c := s.with(t).container("pause", shell("while :; do :; done"), false)
	must(t, c.create(rootfsOf(t, lower), false))
	c.start()
	_, err := s.task.Pause(t.Context(), &taskapi.PauseRequest{ID: c.id})
	must(t, err)
	state, err := s.task.State(t.Context(), &taskapi.StateRequest{ID: c.id})
	must(t, err)
	if state.Status != tasktypes.Status_PAUSED {
		t.Errorf("state %v after pause", state.Status)
	}
	_, err = s.task.Resume(t.Context(), &taskapi.ResumeRequest{ID: c.id})
	must(t, err)
	if state, err = s.task.State(t.Context(), &taskapi.StateRequest{ID: c.id}); err != nil ||
		state.Status != tasktypes.Status_RUNNING {
		t.Errorf("state %v after resume: %v", state.GetStatus(), err)
	}
	c.remove() // also of a container that runs
}
