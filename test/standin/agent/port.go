package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// portTimeout bounds the waiting for the virtio-serial port, which the kernel adds a moment after its driver.
const portTimeout = 10 * time.Second

// Serve answers the shim on the virtio-serial port until the port breaks.
func Serve() error {
	port, err := OpenPort(agentapi.PortName)
	if err != nil {
		return err
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	agentapi.Register(server, New())
	listener := &portListener{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
	listener.conns <- &portConn{port, listener}
	err = server.Serve(context.Background(), listener)
	if errors.Is(err, net.ErrClosed) {
		return errors.New("the shim closed its end of the agent's port")
	}
	return err
}

// OpenPort opens the virtio-serial port of a name when the host's end of it is connected.
func OpenPort(name string) (*os.File, error) {
	deadline := time.Now().Add(portTimeout)
	for {
		path, err := portPath(name)
		if err != nil {
			return nil, err
		}
		if path != "" {
			if f, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
				if err := waitForHost(f, deadline); err != nil {
					f.Close()
					return nil, err
				}
				return f, nil
			} else if !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("no virtio-serial port is named %s", name)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func portPath(want string) (string, error) {
	files, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return "", err
	}
	for _, path := range files {
		name, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(name)) == want {
			return filepath.Join("/dev", filepath.Base(filepath.Dir(path))), nil
		}
	}
	return "", nil
}

// waitForHost waits until the kernel knows that the host's end is connected: before, a read returns 0 bytes
// (linux drivers/char/virtio_console.c, port_fops_read), which would look like the end.
func waitForHost(f *os.File, deadline time.Time) error {
	for time.Now().Before(deadline) {
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN | unix.POLLOUT}}
		if _, err := unix.Poll(fds, 10); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if fds[0].Revents&unix.POLLHUP == 0 && fds[0].Revents != 0 {
			return unix.SetNonblock(int(f.Fd()), true)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s: nobody is at the host's end", f.Name())
}

// portConn is the port as the one connection that there ever is.
type portConn struct {
	*os.File
	listener *portListener
}

// Close ends the listener too: without the port there is nothing left to serve.
func (c *portConn) Close() error {
	c.listener.Close()
	return c.File.Close()
}

func (c *portConn) LocalAddr() net.Addr  { return portAddr{} }
func (c *portConn) RemoteAddr() net.Addr { return portAddr{} }

type portAddr struct{}

func (portAddr) Network() string { return "virtio-serial" }
func (portAddr) String() string  { return agentapi.PortName }

type portListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *portListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *portListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *portListener) Addr() net.Addr { return portAddr{} }
