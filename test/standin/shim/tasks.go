package shim

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	cgroups "github.com/containerd/cgroups/v3/cgroup2/stats"
	taskapi "github.com/containerd/containerd/api/runtime/task/v2"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

type empty = emptypb.Empty

// State says what a process does, and where its streams are.
func (s *service) State(_ context.Context, r *taskapi.StateRequest) (*taskapi.StateResponse, error) {
	p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	resp := &taskapi.StateResponse{
		ID: r.ID, Bundle: p.container.bundle, Pid: s.pid(), Status: tasktypes.Status_CREATED, ExecID: r.ExecID,
		Stdin: p.streams.stdinPath, Stdout: p.streams.stdoutPath, Stderr: p.streams.stderrPath,
		Terminal: p.streams.terminal,
	}
	if p.running() {
		resp.Status = tasktypes.Status_RUNNING
		if p.container.isPaused() {
			resp.Status = tasktypes.Status_PAUSED
		}
	}
	if e, ok := p.ended(); ok {
		resp.Status, resp.ExitStatus, resp.ExitedAt = tasktypes.Status_STOPPED, e.status, timestamppb.New(e.at)
	}
	return resp, nil
}

// Start lets a process go.
func (s *service) Start(ctx context.Context, r *taskapi.StartRequest) (*taskapi.StartResponse, error) {
	p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	return &taskapi.StartResponse{Pid: s.pid()}, p.start(ctx)
}

// Wait answers when the process has ended and all its output is in the fifos.
func (s *service) Wait(ctx context.Context, r *taskapi.WaitRequest) (*taskapi.WaitResponse, error) {
	p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.done:
		return &taskapi.WaitResponse{ExitStatus: p.exit.status, ExitedAt: timestamppb.New(p.exit.at)}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Kill sends a signal. A process that has ended is no error: CRI-O kills what may have ended meanwhile.
func (s *service) Kill(ctx context.Context, r *taskapi.KillRequest) (*empty, error) {
	p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if _, ok := p.ended(); ok {
		return &empty{}, nil
	}
	_, err = p.container.vm.Agent.SignalProcess(ctx, &agentapi.SignalProcessRequest{
		ProcessRequest: p.request(), Signal: r.Signal, All: r.All,
	})
	if errdefs.IsNotFound(err) {
		err = nil
	}
	return &empty{}, err
}

// Exec takes note of a further process; Start makes it.
func (s *service) Exec(_ context.Context, r *taskapi.ExecProcessRequest) (*empty, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	// typeurl encodes what is not a protobuf message as JSON.
	spec := &specs.Process{}
	if err = json.Unmarshal(r.GetSpec().GetValue(), spec); err != nil {
		return nil, fmt.Errorf("exec in container %s: process: %w: %w", r.ID, err, errdefs.ErrInvalidArgument)
	}
	spec.Terminal = r.Terminal
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.init == nil || r.ExecID == "" || c.execs[r.ExecID] != nil {
		return nil, fmt.Errorf("exec %q in container %s: %w", r.ExecID, r.ID, errdefs.ErrFailedPrecondition)
	}
	streams, err := openStreams(r.Stdin, r.Stdout, r.Stderr, r.Terminal)
	if err != nil {
		return nil, err
	}
	p := newProcess(c, r.ExecID, streams)
	p.spec = spec
	c.execs[r.ExecID] = p
	return &empty{}, nil
}

// Delete removes a further process, or a container and its disk.
func (s *service) Delete(ctx context.Context, r *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	c := p.container
	if r.ExecID != "" {
		if err := c.removeExec(ctx, p); err != nil {
			return nil, err
		}
	} else {
		if err := c.remove(ctx); err != nil {
			return nil, fmt.Errorf("delete container %s: %w", r.ID, err)
		}
		s.forget(r.ID)
	}
	e, _ := p.ended()
	return &taskapi.DeleteResponse{Pid: s.pid(), ExitStatus: e.status, ExitedAt: timestamppb.New(e.at)}, nil
}

// removeExec ends a further process; one that was never started is only forgotten.
func (c *container) removeExec(ctx context.Context, p *process) error {
	if p.running() {
		r := p.request()
		if _, err := c.vm.Agent.RemoveProcess(ctx, &r); err != nil && c.vm.Err() == nil {
			return err
		}
		<-p.done
	}
	p.streams.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.execs, p.execID)
	return nil
}

// CloseIO ends the input.
func (s *service) CloseIO(_ context.Context, r *taskapi.CloseIORequest) (*empty, error) {
	p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if r.Stdin {
		p.streams.closeInput()
	}
	return &empty{}, nil
}

// ResizePty sets the size of a terminal.
func (s *service) ResizePty(ctx context.Context, r *taskapi.ResizePtyRequest) (*empty, error) {
	p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	_, err = p.container.vm.Agent.TtyWinResize(ctx, &agentapi.TtyWinResizeRequest{
		ProcessRequest: p.request(), Row: r.Height, Column: r.Width,
	})
	return &empty{}, err
}

// Pids lists the processes of a container, in the guest's numbers.
func (s *service) Pids(ctx context.Context, r *taskapi.PidsRequest) (*taskapi.PidsResponse, error) {
	agent, err := s.agent()
	if err != nil {
		return nil, err
	}
	pids, err := agent.Pids(ctx, &agentapi.ContainerRequest{ContainerID: r.ID})
	if err != nil {
		return nil, err
	}
	resp := &taskapi.PidsResponse{}
	for _, pid := range pids.Pids {
		resp.Processes = append(resp.Processes, &tasktypes.ProcessInfo{Pid: uint32(pid)})
	}
	return resp, nil
}

// Stats reads the container's cgroup in the guest.
func (s *service) Stats(ctx context.Context, r *taskapi.StatsRequest) (*taskapi.StatsResponse, error) {
	agent, err := s.agent()
	if err != nil {
		return nil, err
	}
	st, err := agent.Stats(ctx, &agentapi.ContainerRequest{ContainerID: r.ID})
	if err != nil {
		return nil, err
	}
	metrics, err := typeurl.MarshalAnyToProto(&cgroups.Metrics{
		CPU:    &cgroups.CPUStat{UsageUsec: st.CPUUsageUsec, UserUsec: st.CPUUserUsec, SystemUsec: st.CPUSystemUsec},
		Memory: &cgroups.MemoryStat{Usage: st.MemoryUsage, UsageLimit: st.MemoryLimit},
		Pids:   &cgroups.PidsStat{Current: st.PidsCurrent, Limit: st.PidsLimit},
	})
	return &taskapi.StatsResponse{Stats: metrics}, err
}

// Pause freezes a container.
func (s *service) Pause(ctx context.Context, r *taskapi.PauseRequest) (*empty, error) {
	return s.freeze(ctx, r.ID, true)
}

// Resume thaws a container.
func (s *service) Resume(ctx context.Context, r *taskapi.ResumeRequest) (*empty, error) {
	return s.freeze(ctx, r.ID, false)
}

func (s *service) freeze(ctx context.Context, id string, pause bool) (*empty, error) {
	p, err := s.process(id, "")
	if err != nil {
		return nil, err
	}
	call := p.container.vm.Agent.ResumeContainer
	if pause {
		call = p.container.vm.Agent.PauseContainer
	}
	if _, err := call(ctx, &agentapi.ContainerRequest{ContainerID: id}); err != nil {
		return nil, err
	}
	p.container.mu.Lock()
	defer p.container.mu.Unlock()
	p.container.paused = pause
	return &empty{}, nil
}

func (c *container) isPaused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paused
}

// Update accepts new limits and ignores them: the stand-in's guest has no use for them.
func (s *service) Update(_ context.Context, r *taskapi.UpdateTaskRequest) (*empty, error) {
	_, err := s.container(r.ID)
	return &empty{}, err
}

// Connect says which processes serve the container.
func (s *service) Connect(context.Context, *taskapi.ConnectRequest) (*taskapi.ConnectResponse, error) {
	return &taskapi.ConnectResponse{ShimPid: uint32(os.Getpid()), TaskPid: s.pid(), Version: Version}, nil
}

// Checkpoint is what Kata cannot do either.
func (s *service) Checkpoint(context.Context, *taskapi.CheckpointTaskRequest) (*empty, error) {
	return nil, fmt.Errorf("checkpoint: %w", errdefs.ErrNotImplemented)
}
