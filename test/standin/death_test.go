package standin_test

import (
	"context"
	"strings"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v2"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"golang.org/x/sys/unix"
)

// TestDeaths kills QEMU, and then a shim: both times everything else ends, and the sandbox can be made again.
func TestDeaths(t *testing.T) {
	needVM(t)
	lower := makeVolume(t, "lower", busybox(t))
	s := newSandbox(t, "mortal", rootfsOf(t, lower))
	c := s.container("victim", args("sleep", "1000"), false)
	must(t, c.create(rootfsOf(t, lower), false))
	c.start()
	pids, err := s.task.Connect(t.Context(), &taskapi.ConnectRequest{ID: s.id})
	must(t, err)

	waiting := make(chan *taskapi.WaitResponse, 1)
	go func() {
		resp, _ := s.task.Wait(context.Background(), &taskapi.WaitRequest{ID: c.id})
		waiting <- resp
	}()
	must(t, unix.Kill(int(pids.TaskPid), unix.SIGKILL))
	select {
	case resp := <-waiting:
		if resp.GetExitStatus() != 255 {
			t.Errorf("wait answered %v, want exit status 255", resp)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("wait does not end when QEMU dies")
	}
	state, err := s.task.State(t.Context(), &taskapi.StateRequest{ID: c.id})
	if err != nil || state.Status != tasktypes.Status_STOPPED || state.ExitStatus != 255 {
		t.Errorf("state %v, %v", state, err)
	}
	late := s.container("late", args("true"), false)
	if err = late.create(rootfsOf(t, lower), false); !errdefs.IsUnavailable(errgrpc.ToNative(err)) ||
		!strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("create after QEMU's death: %v", err)
	}
	c.remove()
	(&container{sandbox: s, id: s.id}).remove()
	expectGone(t, s.id, int(pids.ShimPid), int(pids.TaskPid))

	s = newSandbox(t, "mortal", rootfsOf(t, lower))
	pids, err = s.task.Connect(t.Context(), &taskapi.ConnectRequest{ID: s.id})
	must(t, err)
	must(t, unix.Kill(int(pids.ShimPid), unix.SIGKILL))
	deadline := time.Now().Add(5 * time.Second)
	for unix.Kill(int(pids.TaskPid), 0) == nil {
		if time.Now().After(deadline) {
			t.Fatal("QEMU lives longer than the shim")
		}
		time.Sleep(10 * time.Millisecond)
	}
	// What the shim left is for the command delete, as under containerd; a new start would clear it away too.
	removeSandbox(t, t.TempDir(), s.id)
	expectGone(t, s.id, int(pids.ShimPid), int(pids.TaskPid))
}
