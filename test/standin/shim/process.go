package shim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

const (
	// lostStatus is the exit status of a process whose VM died.
	lostStatus = 255

	// drainTime bounds the waiting for the last output of a process that has ended.
	drainTime = 10 * time.Second
)

// process is the shim's view of a process in the guest.
type process struct {
	container *container
	execID    string
	streams   *streams
	spec      *specs.Process // of a further process, until it is started

	mu      sync.Mutex
	started bool
	done    chan struct{} // closed when exit is set
	exit    exit
}

func newProcess(c *container, execID string, s *streams) *process {
	return &process{container: c, execID: execID, streams: s, done: make(chan struct{})}
}

func (p *process) request() agentapi.ProcessRequest {
	return agentapi.ProcessRequest{ContainerID: p.container.id, ExecID: p.execID}
}

// follow copies the streams and waits for the end of a process that exists in the guest.
func (p *process) follow() {
	agent := p.container.vm.Agent
	output := p.streams.copy(agent, p.request())
	go func() {
		r := p.request()
		resp, err := agent.WaitProcess(context.Background(), &r)
		if err != nil {
			logrus.Warnf("wait for process %q of container %s: %v", p.execID, p.container.id, err)
			resp = &agentapi.WaitProcessResponse{Status: lostStatus, ExitedAt: time.Now()}
		}
		select {
		case <-output:
		case <-time.After(drainTime):
			logrus.Warnf("process %q of container %s: output is still open %v after its end", p.execID,
				p.container.id, drainTime)
		}
		p.streams.close()
		p.end(exit{resp.Status, resp.ExitedAt})
	}()
}

func (p *process) end(e exit) {
	p.exit = e
	close(p.done)
}

// start lets a process go. Of a further process the guest learns only now.
func (p *process) start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started {
		return fmt.Errorf("process %q of container %s was started before: %w", p.execID, p.container.id,
			errdefs.ErrFailedPrecondition)
	}
	agent := p.container.vm.Agent
	if p.execID == "" {
		if _, err := agent.StartContainer(ctx, &agentapi.ContainerRequest{ContainerID: p.container.id}); err != nil {
			return err
		}
		p.started = true
		return nil
	}
	_, err := agent.ExecProcess(ctx, &agentapi.ExecProcessRequest{ProcessRequest: p.request(), Process: p.spec})
	if err != nil {
		p.streams.close()
		return err
	}
	p.started = true
	p.follow()
	return nil
}

// ended returns how the process ended, if it has.
func (p *process) ended() (exit, bool) {
	select {
	case <-p.done:
		return p.exit, true
	default:
		return exit{}, false
	}
}

func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.started
}
