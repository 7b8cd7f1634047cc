package shim

import (
	"errors"
	"fmt"
	"io"
	"net"
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
	eventsFD   = 5 // if podState.Events is set
)

// startDaemon starts the pod's proxy and waits until it serves. It leaves no process and no socket behind if that
// fails. events is the listener of state.Events, if there is one already.
func (p *pod) startDaemon(state *podState, events *net.UnixListener) (err error) {
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
	l, err := listenAnew(p.path(socketFile))
	if err != nil {
		return err
	}
	defer l.Close()
	lf, err := l.File()
	if err != nil {
		return err
	}
	defer lf.Close()
	ef, err := eventsFile(state.Events, events)
	if err != nil {
		return err
	}
	defer ef.Close() // nil is fine
	return p.spawn(lf, ef)
}

// eventsFile returns the listener of a path, which is made unless it is there already; nil if there is no path.
func eventsFile(path string, l *net.UnixListener) (_ *os.File, err error) {
	if path == "" {
		return nil, nil
	}
	if l == nil {
		if l, err = listenAnew(path); err != nil {
			return nil, err
		}
		defer l.Close()
	}
	return l.File()
}

// spawn runs the daemon, which inherits the proxy's listener and the one for events, if that is not nil.
func (p *pod) spawn(listener, events *os.File) error {
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
	if events != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, events)
	}
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
