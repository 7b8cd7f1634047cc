package shim

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// envListenFD tells the daemon that it was started by start and which descriptor is its listener; runtime-rs has
// KATA_RUNTIME_BIND_FD.
const envListenFD = "KATA_STANDIN_BIND_FD"

// listenFD is the first of a command's ExtraFiles.
const listenFD = 3

// Start does what `start` is for: for a sandbox it starts the daemon, for a container it finds the sandbox's. It
// returns the address to print. After an error nothing runs.
func Start(a *Args) (string, error) {
	spec, err := readSpec(a.Bundle)
	if err != nil {
		return "", err
	}
	sandboxID, err := sandboxOf(spec, a.ID)
	if err != nil {
		return "", err
	}
	socket, err := socketPath(sandboxID)
	if err != nil {
		return "", err
	}
	// A container's start prints the sandbox's address without a look whether anybody listens there
	// (kata-containers src/runtime-rs/crates/shim/src/shim_start.rs).
	if sandboxID == a.ID {
		pid, err := startDaemon(a, socket)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(a.Bundle, "shim.pid"), []byte(strconv.Itoa(pid)), 0o600); err != nil {
			return "", err
		}
	}
	addr := address(socket)
	return addr, os.WriteFile(filepath.Join(a.Bundle, "address"), []byte(addr), 0o600)
}

func startDaemon(a *Args, socket string) (int, error) {
	if err := makeStateDir(a.ID, socket); err != nil {
		return 0, err
	}
	listener, err := listen(socket)
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	args := []string{"-namespace", a.Namespace, "-address", a.Address, "-publish-binary", a.PublishBinary, "-id", a.ID}
	if a.Debug {
		args = append(args, "-debug")
	}
	cmd := exec.Command(exe, args...)
	cmd.Dir = a.Bundle
	cmd.Env = append(os.Environ(), envListenFD+"="+strconv.Itoa(listenFD))
	cmd.ExtraFiles = []*os.File{listener}
	// Its own session, and a mount namespace of its own as Kata's shims have (shim/src/bin/main.rs, setup_mnt).
	// Standard streams are /dev/null: CRI-O waits until nobody has start's open any more.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		os.Remove(socket)
		return 0, fmt.Errorf("start the daemon: %w", err)
	}
	pid := cmd.Process.Pid // Release forgets it
	return pid, cmd.Process.Release()
}

// makeStateDir makes the sandbox's directory anew, unless its daemon runs.
func makeStateDir(id, socket string) error {
	if conn, err := net.DialTimeout("unix", socket, time.Second); err == nil {
		conn.Close()
		return fmt.Errorf("sandbox %s is already running", id)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(stateDir(id)); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return err
	}
	return os.MkdirAll(stateDir(id), 0o700)
}

// listen returns the listening socket as a file, so that connections are accepted before the daemon is up.
func listen(socket string) (*os.File, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, err
	}
	return l.File()
}
