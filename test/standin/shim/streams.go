package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// chunk is how much is copied at once.
const chunk = 32 << 10

// streams are the fifos that a process's caller made, opened here. Any of them may be missing.
type streams struct {
	stdinPath, stdoutPath, stderrPath string
	terminal                          bool

	stdin *os.File
	// keep holds the fifo of the input open for writing: callers come and go (CRI-O restarts, a client detaches), and
	// the input only ends when it is closed by request.
	keep           *os.File
	stdout, stderr *os.File
	closing        sync.Once
}

// openStreams waits for nobody: fifos are opened without blocking, and for reading and writing where this is what
// makes it succeed without a peer, as in Kata's shims.
func openStreams(stdin, stdout, stderr string, terminal bool) (s *streams, err error) {
	s = &streams{stdinPath: stdin, stdoutPath: stdout, stderrPath: stderr, terminal: terminal}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for _, f := range []struct {
		path string
		flag int
		file **os.File
	}{
		{stdin, os.O_RDONLY, &s.stdin}, {stdin, os.O_WRONLY, &s.keep},
		{stdout, os.O_RDWR, &s.stdout}, {stderr, os.O_RDWR, &s.stderr},
	} {
		if f.path == "" {
			continue
		}
		if *f.file, err = os.OpenFile(f.path, f.flag|unix.O_NONBLOCK, 0); err != nil {
			return nil, fmt.Errorf("open a stream: %w", err)
		}
	}
	return s, nil
}

// copy moves data until the guest's streams end; the channel is closed when the outputs have.
func (s *streams) copy(agent *agentapi.Client, r agentapi.ProcessRequest) <-chan struct{} {
	var wg sync.WaitGroup
	if s.stdin != nil {
		go copyIn(agent, r, s.stdin)
	}
	if s.stdout != nil {
		wg.Go(func() { copyOut(agent.ReadStdout, r, s.stdout) })
	}
	if s.stderr != nil && !s.terminal {
		wg.Go(func() { copyOut(agent.ReadStderr, r, s.stderr) })
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	return done
}

func copyIn(agent *agentapi.Client, r agentapi.ProcessRequest, from *os.File) {
	ctx := context.Background()
	buf := make([]byte, chunk)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			w := &agentapi.WriteStreamRequest{ProcessRequest: r, Data: buf[:n]}
			if _, failure := agent.WriteStdin(ctx, w); failure != nil {
				logrus.Debugf("input of process %q of container %s: %v", r.ExecID, r.ContainerID, failure)
				return
			}
		}
		if errors.Is(err, io.EOF) {
			agent.CloseStdin(ctx, &r)
		}
		if err != nil {
			return
		}
	}
}

type readStream func(context.Context, *agentapi.ReadStreamRequest) (*agentapi.ReadStreamResponse, error)

func copyOut(read readStream, r agentapi.ProcessRequest, to *os.File) {
	for {
		resp, err := read(context.Background(), &agentapi.ReadStreamRequest{ProcessRequest: r, Len: chunk})
		if err != nil {
			logrus.Debugf("output of process %q of container %s: %v", r.ExecID, r.ContainerID, err)
			return
		}
		if len(resp.Data) > 0 {
			if _, err := to.Write(resp.Data); err != nil {
				logrus.Warnf("output of process %q of container %s: %v", r.ExecID, r.ContainerID, err)
				return
			}
		}
		if resp.EOF {
			return
		}
	}
}

// closeInput ends the input when what is in the fifo has been read.
func (s *streams) closeInput() {
	if s.keep != nil {
		s.keep.Close()
	}
}

func (s *streams) close() {
	s.closing.Do(func() {
		for _, f := range []*os.File{s.stdin, s.keep, s.stdout, s.stderr} {
			if f != nil {
				f.Close()
			}
		}
	})
}
