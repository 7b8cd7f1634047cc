package trap

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrKilled is returned by Run if the program was killed at a call.
var ErrKilled = errors.New("killed at a system call")

// Verdict is what becomes of a call.
type Verdict struct {
	kill bool
	fail unix.Errno
}

// Verdicts.
var (
	Go   = Verdict{}           // the call happens
	Kill = Verdict{kill: true} // SIGKILL to the process and those that it has started; the call does not happen
)

// Fail has the call not happen and return an error.
func Fail(errno unix.Errno) Verdict { return Verdict{fail: errno} }

// notification is struct seccomp_notif and response struct seccomp_notif_resp (linux/seccomp.h).
type notification struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// Run starts the program, which has to call Arm, and asks decide about each call, one at a time, until the program has
// ended. It returns ErrKilled, or what cmd.Wait does.
func Run(cmd *exec.Cmd, decide func(*Call) Verdict) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	theirs := os.NewFile(uintptr(fds[1]), "trap")
	defer unix.Close(fds[0])
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, envSocket+"="+strconv.Itoa(3+len(cmd.ExtraFiles)))
	cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return err
	}
	killed, err := watch(fds[0], cmd.Process.Pid, decide)
	if err != nil {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	}
	ended := cmd.Wait()
	if killed {
		return ErrKilled
	}
	return errors.Join(err, ended)
}

// watch gets the listener from the program and serves it.
func watch(socket, group int, decide func(*Call) Verdict) (killed bool, err error) {
	buf, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	n, controlLen, _, _, err := unix.Recvmsg(socket, buf, control, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n == 0 {
		return false, err // it ended before it armed itself; cmd.Wait says how
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlLen])
	if err != nil || len(messages) != 1 {
		return false, fmt.Errorf("trap: %d control messages: %w", len(messages), err)
	}
	rights, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return false, err
	}
	defer unix.Close(rights[0])
	for {
		n, err := receive(rights[0])
		if n == nil || err != nil {
			return killed, err
		}
		verdict := decide(&Call{n})
		if verdict.kill {
			killed = true
			if err := unix.Kill(-group, unix.SIGKILL); err != nil {
				return killed, err
			}
			continue // until nobody is left: they hold mounts and locks until then
		}
		if err := respond(rights[0], n, verdict); err != nil {
			return killed, err
		}
	}
}

// receive waits for the next call; nil means that all who have the filter have ended.
func receive(listener int) (*notification, error) {
	for {
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			if poll[0].Revents&unix.POLLHUP != 0 {
				return nil, nil
			}
			continue
		}
		n := &notification{}
		switch err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(n)); {
		case err == nil:
			return n, nil
		case !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOENT): // ENOENT: killed, or interrupted, meanwhile
			return nil, err
		}
	}
}

func respond(listener int, n *notification, v Verdict) error {
	r := response{id: n.id, errno: -int32(v.fail)}
	if v.fail == 0 {
		r.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	}
	err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
	if errors.Is(err, unix.ENOENT) {
		return nil // killed meanwhile
	}
	return err
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
