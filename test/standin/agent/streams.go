package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/creack/pty"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// maxRead bounds an answer: ttrpc refuses messages of more than 4 MiB.
const maxRead = 64 << 10

// ExecProcess starts another process in a container.
func (a *Agent) ExecProcess(_ context.Context, r *agentapi.ExecProcessRequest) (*agentapi.Empty, error) {
	c, err := a.container(r.ContainerID)
	if err != nil {
		return nil, err
	}
	if r.Process == nil || r.ExecID == "" {
		return nil, fmt.Errorf("exec without a process or an id: %w", errdefs.ErrInvalidArgument)
	}
	if err := c.exec(r.ExecID, r.Process); err != nil {
		return nil, fmt.Errorf("container %s: %w", r.ContainerID, err)
	}
	return &agentapi.Empty{}, nil
}

// RemoveProcess kills a further process if it still runs and forgets it.
func (a *Agent) RemoveProcess(_ context.Context, r *agentapi.ProcessRequest) (*agentapi.Empty, error) {
	c, err := a.container(r.ContainerID)
	if err != nil {
		return nil, err
	}
	return &agentapi.Empty{}, c.removeProcess(r.ExecID)
}

// SignalProcess sends a signal. A first process that does not handle SIGTERM would never see it, being init of its PID
// namespace; Kata's agent then kills it (kata-containers src/agent/src/rpc.rs, do_signal_process).
func (a *Agent) SignalProcess(_ context.Context, r *agentapi.SignalProcessRequest) (*agentapi.Empty, error) {
	c, err := a.container(r.ContainerID)
	if err != nil {
		return nil, err
	}
	sig := syscall.Signal(r.Signal)
	if r.All {
		return &agentapi.Empty{}, c.signalAll(sig)
	}
	p, err := c.process(r.ExecID)
	if err != nil {
		return nil, err
	}
	if sig == syscall.SIGTERM && r.ExecID == "" && !handles(p.cmd.Process.Pid, sig) {
		sig = syscall.SIGKILL
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		if errors.Is(err, os.ErrProcessDone) {
			err = fmt.Errorf("process has ended: %w", errdefs.ErrNotFound)
		}
		return nil, err
	}
	return &agentapi.Empty{}, nil
}

// handles reads from /proc whether a process catches a signal (proc(5), SigCgt).
func handles(pid int, sig syscall.Signal) bool {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return true
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if mask, ok := strings.CutPrefix(lines.Text(), "SigCgt:"); ok {
			caught, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err != nil || caught&(1<<(sig-1)) != 0
		}
	}
	return true
}

// WaitProcess answers when the process has ended.
func (a *Agent) WaitProcess(ctx context.Context, r *agentapi.ProcessRequest) (*agentapi.WaitProcessResponse, error) {
	p, err := a.process(*r)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.exited:
		return &agentapi.WaitProcessResponse{Status: p.status, ExitedAt: p.exitedAt}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// WriteStdin writes to a process's standard input.
func (a *Agent) WriteStdin(_ context.Context, r *agentapi.WriteStreamRequest) (*agentapi.Empty, error) {
	p, err := a.process(r.ProcessRequest)
	if err != nil {
		return nil, err
	}
	return &agentapi.Empty{}, p.write(r.Data)
}

// CloseStdin ends a process's standard input.
func (a *Agent) CloseStdin(_ context.Context, r *agentapi.ProcessRequest) (*agentapi.Empty, error) {
	p, err := a.process(*r)
	if err != nil {
		return nil, err
	}
	p.closeStdin()
	return &agentapi.Empty{}, nil
}

// ReadStdout answers when there is output.
func (a *Agent) ReadStdout(_ context.Context, r *agentapi.ReadStreamRequest) (*agentapi.ReadStreamResponse, error) {
	p, err := a.process(r.ProcessRequest)
	if err != nil {
		return nil, err
	}
	return readStream(p.stdout, r.Len)
}

// ReadStderr answers when there is output. A process with a terminal has none.
func (a *Agent) ReadStderr(_ context.Context, r *agentapi.ReadStreamRequest) (*agentapi.ReadStreamResponse, error) {
	p, err := a.process(r.ProcessRequest)
	if err != nil {
		return nil, err
	}
	return readStream(p.stderr, r.Len)
}

func readStream(f *os.File, n int) (*agentapi.ReadStreamResponse, error) {
	data, err := read(f, min(max(n, 1), maxRead))
	if errors.Is(err, io.EOF) {
		return &agentapi.ReadStreamResponse{EOF: true}, nil
	}
	return &agentapi.ReadStreamResponse{Data: data}, err
}

// TtyWinResize sets the size of a terminal.
func (a *Agent) TtyWinResize(_ context.Context, r *agentapi.TtyWinResizeRequest) (*agentapi.Empty, error) {
	p, err := a.process(r.ProcessRequest)
	if err != nil {
		return nil, err
	}
	if p.stdin == nil || p.stdin != p.stdout {
		return nil, fmt.Errorf("the process has no terminal: %w", errdefs.ErrFailedPrecondition)
	}
	return &agentapi.Empty{}, pty.Setsize(p.stdout, &pty.Winsize{Rows: uint16(r.Row), Cols: uint16(r.Column)})
}
