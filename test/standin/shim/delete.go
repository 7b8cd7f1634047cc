package shim

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// killedStatus is what a deleted container is said to have ended with.
const killedStatus = 128 + uint32(syscall.SIGKILL)

// Delete does what `delete` is for: it clears away what a sandbox's daemon left, and ends the daemon if it still runs.
// For a container of a pod there is nothing to do. It returns the response to print.
func Delete(a *Args) ([]byte, error) {
	socket, err := socketPath(a.ID)
	if err != nil {
		return nil, err
	}
	if err := killDaemon(a.ID); err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := os.RemoveAll(stateDir(a.ID)); err != nil {
		return nil, err
	}
	return proto.Marshal(&taskapi.DeleteResponse{ExitStatus: killedStatus, ExitedAt: timestamppb.New(time.Now())})
}

// killDaemon makes sure that the process is a shim for this id before it kills it: numbers are used again.
func killDaemon(id string) error {
	b, err := os.ReadFile(filepath.Join(stateDir(id), "pid"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return err
	}
	cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil || !strings.Contains(string(cmdline), "\x00-id\x00"+id+"\x00") {
		return nil
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return nil
	}
	if err := process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	for range 100 { // QEMU dies with the daemon
		if process.Signal(syscall.Signal(0)) != nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("the daemon does not die")
}
