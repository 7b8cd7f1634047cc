package shim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// daemonArg as the first argument makes the program a pod's proxy; the pod directory follows. No shim is ever
	// called like that.
	daemonArg = "crio-erofs-proxy"

	// readyTimeout bounds how long a daemon may take until it serves.
	readyTimeout = 10 * time.Second

	readyMessage = "ready"

	// File descriptors that the daemon inherits.
	listenerFD = 3
	readyFD    = 4
)

// startDaemon starts the pod's proxy and waits until it serves. It leaves no process and no socket behind if that
// fails.
func (p *pod) startDaemon(state *podState) (err error) {
	defer func() {
		if err != nil {
			_ = os.Remove(p.path(socketFile))
		}
	}()
	if err := p.writeState(state); err != nil {
		return err
	}
	if err := writeFileAtomic(p.path(emptyFile), nil, 0o400); err != nil {
		return err
	}
	l, err := p.listen()
	if err != nil {
		return err
	}
	defer l.Close()
	lf, err := l.File()
	if err != nil {
		return err
	}
	defer lf.Close()
	return p.spawn(lf)
}

func (p *pod) spawn(listener *os.File) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// CRI-O waits for everyone who holds its pipe, so stdio is /dev/null and the log.
	log, err := os.OpenFile(p.path(logFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	ready, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(self, daemonArg, p.dir)
	cmd.Args[0] = os.Args[0]
	cmd.Dir = "/" // keeps no file system busy
	cmd.Stderr = log
	cmd.ExtraFiles = []*os.File{listener, w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	if err := waitReady(ready); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("proxy: %w", err)
	}
	return cmd.Process.Release()
}

// waitReady reads the daemon's first and only message: readyMessage or an error.
func waitReady(r *os.File) error {
	if err := r.SetReadDeadline(time.Now().Add(readyTimeout)); err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(r, 64<<10))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("not ready after %v", readyTimeout)
	case err != nil:
		return err
	case len(b) == 0:
		return errors.New("ended without a word")
	case string(b) != readyMessage:
		return errors.New(string(b))
	}
	return nil
}
