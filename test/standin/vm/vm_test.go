package vm_test

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
	"github.com/crio-erofs/crio-erofs/test/standin/guest"
	"github.com/crio-erofs/crio-erofs/test/standin/vm"
)

func bootForTest(t *testing.T) *vm.VM {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("needs qemu-system-x86_64 (Debian package qemu-system-x86)")
	}
	files, err := guest.Build(t.Context(), "../../../.cache/guest", ".")
	if err != nil {
		t.Fatal(err)
	}
	v, err := vm.Boot(t.Context(), vm.Config{Dir: t.TempDir(), Files: files})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Stop)
	return v
}

func TestVM(t *testing.T) {
	v := bootForTest(t)
	info, err := v.Agent.GuestInfo(t.Context(), &agentapi.GuestInfoRequest{KernelLog: 3})
	if err != nil {
		t.Fatal(err)
	}
	if info.Kernel == "" || len(info.Mounts) == 0 || len(info.KernelLog) != 3 {
		t.Errorf("guest info %+v", info)
	}
	if _, err := vm.Boot(t.Context(), vm.Config{Dir: "/nonexistent", Files: &guest.Files{}}); err == nil {
		t.Error("a VM without files booted")
	}

	// A call that waits in the guest ends with an error when QEMU dies.
	call := make(chan error, 1)
	go func() {
		_, err := v.Agent.WaitProcess(context.Background(), &agentapi.ProcessRequest{ContainerID: "none"})
		call <- err
	}()
	if err := <-call; err == nil {
		t.Error("waiting for a process of no container succeeded")
	}
	v.Stop()
	select {
	case <-v.Done():
	case <-time.After(time.Second):
		t.Fatal("QEMU still runs after Stop")
	}
	if v.Err() == nil {
		t.Error("a VM that has ended has no error")
	}
	if _, err := v.Agent.Check(t.Context(), &agentapi.Empty{}); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a call to a VM that has ended: %v", err)
	}
}
