package main

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v2"
	ctypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/crio-erofs/crio-erofs/test/standin/publish"
)

// serve runs the task service of a sandbox until Shutdown.
func serve(sandbox string) {
	l, err := net.Listen("unix", socket(sandbox))
	must(err)
	s, err := ttrpc.NewServer()
	must(err)
	task.RegisterTaskService(s, &service{sandbox: sandbox, tasks: map[string]*process{}})
	must(s.Serve(context.Background(), l))
}

// service implements the methods that the tests use; the embedded interface is nil, so others would crash it.
type service struct {
	task.TaskService
	sandbox string

	mu    sync.Mutex
	tasks map[string]*process
}

// process is a container's, or an exec's, that is none.
type process struct {
	state *task.StateResponse
	ended chan struct{}
}

// process returns the process of a container, or of an exec in it; it makes one that does not exist.
func (s *service) process(id string) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.tasks[id]
	if !ok {
		p = &process{ended: make(chan struct{}),
			state: &task.StateResponse{ID: id, Pid: uint32(os.Getpid()), Status: ctypes.Status_CREATED}}
		s.tasks[id] = p
	}
	return p
}

// end ends a process, once.
func (s *service) end(id string, status uint32) {
	p := s.process(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.state.Status != ctypes.Status_STOPPED {
		p.state.Status, p.state.ExitStatus, p.state.ExitedAt = ctypes.Status_STOPPED, status, timestamppb.Now()
		close(p.ended)
	}
}

// Create records the request as it came, unknown fields included.
func (s *service) Create(_ context.Context, r *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	wire, err := proto.Marshal(r)
	if err != nil {
		return nil, err
	}
	record("create-"+r.ID+".json", wire)
	if strings.HasPrefix(r.ID, "hang") {
		select {}
	}
	if strings.HasPrefix(r.ID, "fail") {
		return nil, status.Error(codes.AlreadyExists, "the guest says no")
	}
	st := s.process(r.ID).state
	st.Bundle, st.Stdin, st.Stdout, st.Stderr, st.Terminal = r.Bundle, r.Stdin, r.Stdout, r.Stderr, r.Terminal
	return &task.CreateTaskResponse{Pid: st.Pid}, nil
}

func (s *service) Start(_ context.Context, r *task.StartRequest) (*task.StartResponse, error) {
	p := s.process(r.ID + r.ExecID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.state.Status == ctypes.Status_CREATED {
		p.state.Status = ctypes.Status_RUNNING
	}
	return &task.StartResponse{Pid: p.state.Pid}, nil
}

// Wait blocks until Kill, as a container's does.
func (s *service) Wait(_ context.Context, r *task.WaitRequest) (*task.WaitResponse, error) {
	p := s.process(r.ID + r.ExecID)
	<-p.ended
	return &task.WaitResponse{ExitStatus: p.state.ExitStatus, ExitedAt: p.state.ExitedAt}, nil
}

func (s *service) Kill(_ context.Context, r *task.KillRequest) (*emptypb.Empty, error) {
	s.end(r.ID+r.ExecID, 128+r.Signal)
	return &emptypb.Empty{}, nil
}

// Exec ends at once, with the status 42.
func (s *service) Exec(_ context.Context, r *task.ExecProcessRequest) (*emptypb.Empty, error) {
	s.end(r.ID+r.ExecID, 42)
	return &emptypb.Empty{}, nil
}

// State echoes an id that it does not know, so that a long one gives long messages both ways.
func (s *service) State(_ context.Context, r *task.StateRequest) (*task.StateResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.tasks[r.ID]; ok {
		return proto.CloneOf(p.state), nil
	}
	return &task.StateResponse{ID: r.ID, Pid: uint32(os.Getpid())}, nil
}

// Update has a container killed, and nobody says by whom.
func (s *service) Update(_ context.Context, r *task.UpdateTaskRequest) (*emptypb.Empty, error) {
	s.end(r.ID, 137)
	return &emptypb.Empty{}, nil
}

// Resume has a container killed for want of memory. The news of that takes longer than that of its end.
func (s *service) Resume(_ context.Context, r *task.ResumeRequest) (*emptypb.Empty, error) {
	s.end(r.ID, 137)
	go func() {
		time.Sleep(100 * time.Millisecond)
		must(publish.OOM(context.Background(), publish.Address(), r.ID))
	}()
	return &emptypb.Empty{}, nil
}

// Pause crashes the shim.
func (s *service) Pause(context.Context, *task.PauseRequest) (*emptypb.Empty, error) {
	os.Exit(7)
	return nil, nil
}

func (s *service) Delete(_ context.Context, r *task.DeleteRequest) (*task.DeleteResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tasks, r.ID+r.ExecID)
	return &task.DeleteResponse{}, nil
}

// Shutdown exits for the sandbox, and if there is no container, as Kata does.
func (s *service) Shutdown(_ context.Context, r *task.ShutdownRequest) (*emptypb.Empty, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.ID == s.sandbox || len(s.tasks) == 0 {
		os.Exit(0) // like Kata's, without an answer and without removing its socket
	}
	return &emptypb.Empty{}, nil
}
