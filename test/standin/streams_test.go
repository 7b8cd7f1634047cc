package standin_test

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/fifo"
	"golang.org/x/sys/unix"
)

// callerStreams opens fifos as CRI-O does.
type callerStreams struct {
	stdin          io.WriteCloser
	stdout, stderr *collector
	config         [3]string
}

// collector reads a fifo to its end.
type collector struct {
	buf  bytes.Buffer
	done chan struct{}
}

func collect(r io.ReadCloser) *collector {
	c := &collector{done: make(chan struct{})}
	go func() {
		io.Copy(&c.buf, r)
		r.Close()
		close(c.done)
	}()
	return c
}

func (c *collector) text(t *testing.T) string {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(patience):
		t.Fatal("the output does not end")
	}
	return c.buf.String()
}

func openCallerStreams(t *testing.T, stdin, terminal bool) *callerStreams {
	t.Helper()
	dir := t.TempDir()
	s := &callerStreams{}
	open := func(i int, name string, flag int) io.ReadWriteCloser {
		s.config[i] = filepath.Join(dir, name)
		f, err := fifo.OpenFifo(context.Background(), s.config[i], flag|unix.O_CREAT|unix.O_NONBLOCK, 0o700)
		must(t, err)
		return f
	}
	if stdin {
		s.stdin = open(0, "stdin", unix.O_WRONLY)
	}
	s.stdout = collect(open(1, "stdout", unix.O_RDONLY))
	if !terminal {
		s.stderr = collect(open(2, "stderr", unix.O_RDONLY))
	}
	return s
}
