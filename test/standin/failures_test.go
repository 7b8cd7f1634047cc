package standin_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/shim"
)

func testErrors(t *testing.T, s *sandbox, lower *volume) {
	bad := lower.copy(t)
	bad.rootHash = strings.Repeat("ab", 32)
	bad.describe(t)
	for name, test := range map[string]struct {
		change func(*specs.Spec)
		rootfs []*volume
		want   string
	}{
		"no rootfs":       {shell("true"), nil, "share fs is unavailable"},
		"no such program": {args("/bin/absent"), []*volume{lower}, "/bin/absent was not found"},
		"not in PATH":     {args("absent"), []*volume{lower}, `absent was not found in PATH "/bin"`},
		"wrong root hash": {shell("true"), []*volume{bad}, "dm-verity found the volume not to match its root hash"},
	} {
		c := s.with(t).container("error", test.change, false)
		mounts := rootfsOf(t, test.rootfs...)
		if test.rootfs == nil {
			mounts = nil
		}
		if err := c.create(mounts, false); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, test.want)
		}
		if _, err := s.task.State(t.Context(), &taskapi.StateRequest{ID: c.id}); !errdefs.IsNotFound(errgrpc.ToNative(err)) {
			t.Errorf("%s: the container is there after its creation failed: %v", name, err)
		}
	}
	_, err := s.task.Checkpoint(t.Context(), &taskapi.CheckpointTaskRequest{ID: "x"})
	if !errdefs.IsNotImplemented(errgrpc.ToNative(err)) {
		t.Errorf("checkpoint: %v", err)
	}
}

// testTamper flips a byte of a file's data, and of the program to run.
func testTamper(t *testing.T, s *sandbox, lower, upper *volume) {
	data := upper.copy(t)
	flip(t, data.path, byteAt(t, data.path, 0x5a^7))
	c := s.with(t).container("tampered", shell("cat /etc/layer; cat /data >/dev/null; echo $?"), false)
	must(t, c.create(rootfsOf(t, data, lower), false))
	c.start()
	c.wait("")
	c.remove()
	if got := c.streams.stdout.text(t); got != "upper\n1\n" {
		t.Errorf("output %q", got)
	}
	if got := c.streams.stderr.text(t); !strings.Contains(got, "Input/output error") {
		t.Errorf("errors %q, want the kernel's EIO", got)
	}

	program := lower.copy(t)
	elf, err := os.ReadFile("/bin/busybox")
	must(t, err)
	image, err := os.ReadFile(program.path)
	must(t, err)
	at := strings.Index(string(image), string(elf[:4096]))
	if at < 0 {
		t.Fatal("busybox is not in the volume in one piece")
	}
	flip(t, program.path, int64(at)+100)
	c = s.with(t).container("tampered-program", args("/bin/sh", "-c", "true"), false)
	must(t, c.create(rootfsOf(t, program), false))
	_, err = s.task.Start(t.Context(), &taskapi.StartRequest{ID: c.id})
	if err == nil || !strings.Contains(err.Error(), "exec /bin/sh: input/output error") {
		t.Errorf("start of a tampered program: %v", err)
	}
	c.remove()
}

// byteAt finds a block full of a byte, which application wrote.
func byteAt(t *testing.T, path string, b byte) int64 {
	t.Helper()
	image, err := os.ReadFile(path)
	must(t, err)
	at := strings.Index(string(image), strings.Repeat(string([]byte{b}), 4096))
	if at < 0 {
		t.Fatalf("no block of %#x in %s", b, path)
	}
	return int64(at) + 17
}

func flip(t *testing.T, path string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, offset)
	must(t, err)
	_, err = f.WriteAt([]byte{b[0] ^ 1}, offset)
	must(t, err)
}

func testGuestInfo(t *testing.T, s *sandbox, lower, upper *volume) {
	c := s.with(t).container("info", args("sleep", "1000"), false)
	must(t, c.create(rootfsOf(t, upper, lower), false))
	c.start()
	info, err := shim.GuestInfo(t.Context(), "po", 200)
	must(t, err)
	var names []string
	tables := map[string]string{}
	for _, ct := range info.Containers {
		if ct.ID == c.id {
			names = ct.Verity
		}
	}
	for _, d := range info.DM {
		tables[d.Name] = d.Table
		if !d.ReadOnly {
			t.Errorf("device %s is writable", d.Name)
		}
	}
	if len(names) != 2 {
		t.Fatalf("verity devices of %s: %v", c.id, names)
	}
	for i, v := range []*volume{upper, lower} {
		want := fmt.Sprintf(" 4096 4096 %d %d sha256 %s -", v.hashOffset/4096, v.hashOffset/4096+1, v.rootHash)
		if !strings.HasSuffix(tables[names[i]], want) {
			t.Errorf("table %q, want it to end with %q", tables[names[i]], want)
		}
	}
	all := strings.Join(info.Mounts, "\n")
	for _, want := range []string{"/dev/mapper/" + names[0] + " /run/kata-containers/info/multi-layer/lower-0 erofs ro",
		"overlay /run/kata-containers/shared/containers/passthrough/info/rootfs overlay rw"} {
		if !strings.Contains(all, want) {
			t.Errorf("/proc/mounts has no %q:\n%s", want, all)
		}
	}
	if log := strings.Join(info.KernelLog, "\n"); !strings.Contains(log, "device-mapper: verity") {
		t.Errorf("the kernel's log says nothing of the tampered volumes:\n%s", log)
	}
	out := command(t, built.shim, "guest-info", "--sandbox", "pod", "--tail", "1")
	if !strings.Contains(out, upper.rootHash) || !strings.Contains(out, "lower-1 erofs ro") {
		t.Errorf("guest-info printed %s", out)
	}
	c.remove()
	if info, err = shim.GuestInfo(t.Context(), "pod", 0); err != nil || len(info.DM) != 1 || len(info.Containers) != 1 {
		t.Errorf("after the containers' removal: %v, %d dm devices, %d containers; want those of the sandbox", err,
			len(info.DM), len(info.Containers))
	}
}

// testShutdown ends the pod as CRI-O does and looks for what was left.
func testShutdown(t *testing.T, s *sandbox) {
	dumpLogs(s.T, s.id)
	connect, err := s.task.Connect(t.Context(), &taskapi.ConnectRequest{ID: s.id})
	must(t, err)
	_, err = s.task.Kill(t.Context(), &taskapi.KillRequest{ID: s.id, Signal: uint32(unix.SIGKILL)})
	must(t, err)
	c := &container{sandbox: s.with(t), id: s.id}
	if got := c.wait(""); got != 137 {
		t.Errorf("exit status of the sandbox %d, want 137", got)
	}
	c.remove()
	expectGone(t, s.id, int(connect.ShimPid), int(connect.TaskPid))
}

func expectGone(t *testing.T, id string, pids ...int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		var left []string
		for _, pid := range pids {
			if unix.Kill(pid, 0) == nil {
				left = append(left, fmt.Sprintf("process %d", pid))
			}
		}
		if _, err := os.Stat(filepath.Join(shim.Root(), id)); err == nil {
			left = append(left, "state directory")
		}
		if sockets, _ := filepath.Glob(filepath.Join(shim.Root(), "s", "*")); len(sockets) > 0 {
			left = append(left, sockets...)
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left after the shutdown: %v", left)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
