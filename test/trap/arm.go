package trap

import (
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// envSocket names the descriptor of the socket on which Arm sends the listener.
const envSocket = "CRIO_EROFS_TRAP"

// filterFlags: all threads get the filter; and once the parent has a call, no signal of Go's scheduler may interrupt it
// and let it be announced again (Linux 5.19, commit c2aa2dfef243, "seccomp: Add wait_killable semantic to seccomp user
// notifier").
const filterFlags = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH |
	unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV

// Arm has the calls of this process, and of processes that it starts from now on, go through the Run that started it:
// those that change something, or with reads all of the table.
func Arm(reads bool) error {
	socket, err := strconv.Atoi(os.Getenv(envSocket))
	if err != nil {
		return fmt.Errorf("%s: %w: the process was not started by trap.Run", envSocket, err)
	}
	defer unix.Close(socket)
	unix.CloseOnExec(socket)
	if err := os.Unsetenv(envSocket); err != nil {
		return err
	}
	listener, err := installFilter(reads)
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	return unix.Sendmsg(socket, []byte{0}, unix.UnixRights(listener), nil, 0)
}

// installFilter returns the listener.
func installFilter(reads bool) (int, error) {
	raw, err := bpf.Assemble(filter(reads))
	if err != nil {
		return 0, err
	}
	// struct sock_filter and bpf.RawInstruction have the same fields in the same order.
	program := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		program[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, filterFlags,
		uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return 0, fmt.Errorf("seccomp: %w (needs CAP_SYS_ADMIN and Linux 5.19)", errno)
	}
	unix.CloseOnExec(int(fd))
	return int(fd), nil
}

// filter announces the calls of the table and lets all others pass.
func filter(reads bool) []bpf.Instruction {
	const offsetOfNumber = 0 // struct seccomp_data (linux/seccomp.h)
	prog := []bpf.Instruction{bpf.LoadAbsolute{Off: offsetOfNumber, Size: 4}}
	for nr, e := range table {
		if e.reads && e.flagsArg < 0 && !reads {
			continue
		}
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nr, SkipTrue: 1},
			bpf.RetConstant{Val: unix.SECCOMP_RET_USER_NOTIF})
	}
	return append(prog, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW})
}
