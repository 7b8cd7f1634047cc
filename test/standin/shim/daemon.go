package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// farewell is how long the daemon waits for its last answers to be read.
const farewell = 2 * time.Second

// Run is the daemon. It returns when the sandbox was shut down and nothing is left of it.
func Run(a *Args) error {
	if os.Getenv(envListenFD) != strconv.Itoa(listenFD) {
		return errors.New("the daemon is started by the command start")
	}
	os.Unsetenv(envListenFD)
	// Kata's shim ignores SIGTERM, which systemd sends to a whole cgroup while the shim still has work to do
	// (shim/src/bin/main.rs, main). It is ended by the request Shutdown.
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	if err := setUpMounts(); err != nil {
		return err
	}
	dir := stateDir(a.ID)
	openLog(a, dir)
	listener, err := net.FileListener(os.NewFile(listenFD, "listener"))
	if err != nil {
		return err
	}
	socket, err := socketPath(a.ID)
	if err != nil {
		return err
	}
	if err = os.WriteFile(filepath.Join(dir, "pid"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	s := newService(a.ID, dir)
	err = serve(s, listener)
	s.close()
	return errors.Join(err, os.Remove(socket), os.RemoveAll(dir))
}

// setUpMounts makes host mounts flow in and none out, then lets namespaces below share ours.
func setUpMounts() error {
	for _, flag := range []uintptr{unix.MS_SLAVE, unix.MS_SHARED} {
		if err := unix.Mount("", "/", "", unix.MS_REC|flag, ""); err != nil {
			return fmt.Errorf("change propagation of mounts: %w", err)
		}
	}
	return nil
}

// openLog writes the log to the state directory and to the fifo that CRI-O reads, if there is one: a shim's log shows
// up in CRI-O's.
func openLog(a *Args, dir string) {
	if a.Debug {
		logrus.SetLevel(logrus.DebugLevel)
	}
	var writers []io.Writer
	if f, err := os.OpenFile(filepath.Join(dir, "shim.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err == nil {
		writers = append(writers, f)
	}
	if f, err := os.OpenFile(filepath.Join(a.Bundle, "log"), os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
		writers = append(writers, besideWriter{f})
	}
	logrus.SetOutput(io.MultiWriter(writers...))
	logrus.SetFormatter(&logrus.TextFormatter{DisableColors: true})
}

// besideWriter never fails and never waits: a reader that is slow or gone must not stop the log or the daemon.
type besideWriter struct{ f *os.File }

func (w besideWriter) Write(p []byte) (int, error) {
	w.f.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	w.f.Write(p)
	return len(p), nil
}

// serve answers until the service is shut down.
func serve(s *service, listener net.Listener) error {
	server, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(s.toStatus))
	if err != nil {
		return err
	}
	taskapi.RegisterTaskService(server, s)
	registerInfo(server, s)
	done := make(chan error, 1)
	go func() { done <- server.Serve(context.Background(), listener) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve: %w", err)
	case <-s.shutdown:
	}
	// Ends idle connections at once and the others when they have had their answers.
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return server.Close()
	}
	return nil
}

// toStatus gives errors the gRPC code that CRI-O tells their kind by.
func (s *service) toStatus(ctx context.Context, u ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, m ttrpc.Method) (
	any, error) {
	resp, err := m(ctx, u)
	if err != nil {
		err = s.explain(err)
		logrus.Warnf("%s: %v", info.FullMethod, err)
		return nil, errgrpc.ToGRPC(err)
	}
	return resp, nil
}
