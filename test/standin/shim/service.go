package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	taskapi "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
	"github.com/crio-erofs/crio-erofs/test/standin/guest"
	"github.com/crio-erofs/crio-erofs/test/standin/vm"
)

// EnvMemory is the guest's memory in MiB; upper layers are in it too.
const EnvMemory = "KATA_STANDIN_MEMORY_MIB"

// EnvInitData names a file with init data for VMs (crio-erofs measure --format initdata). Kata takes it from the pod's
// annotation cc_init_data, and the hardware vouches for its digest.
const EnvInitData = "KATA_STANDIN_INITDATA"

// service is containerd.task.v2.Task for one sandbox.
type service struct {
	sandboxID string
	dir       string
	shutdown  chan struct{} // closed by Shutdown
	once      sync.Once

	mu         sync.Mutex // guards the rest
	vm         *vm.VM
	containers map[string]*container
}

var _ taskapi.TaskService = (*service)(nil)

func newService(sandboxID, dir string) *service {
	return &service{
		sandboxID: sandboxID, dir: dir, shutdown: make(chan struct{}), containers: map[string]*container{},
	}
}

// explain says of an error that came from a dead VM so, and that it was not the request's fault.
func (s *service) explain(err error) error {
	s.mu.Lock()
	v := s.vm
	s.mu.Unlock()
	if v != nil {
		err = v.Explain(err)
	}
	if errors.Is(err, vm.ErrGone) {
		err = fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	return err
}

// close ends the VM and everything in it.
func (s *service) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.vm != nil {
		s.vm.Stop()
	}
	for _, c := range s.containers {
		c.closeStreams()
	}
}

// machine returns the VM; it is booted for the sandbox container, as in Kata.
func (s *service) machine(ctx context.Context, id string, spec *specs.Spec) (*vm.VM, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.vm != nil {
		if err := s.vm.Err(); err != nil {
			return nil, fmt.Errorf("sandbox %s: %w: %w", s.sandboxID, vm.ErrGone, err)
		}
		return s.vm, nil
	}
	if id != s.sandboxID {
		return nil, fmt.Errorf("sandbox %s has not been created: %w", s.sandboxID, errdefs.ErrFailedPrecondition)
	}
	cfg, err := s.config()
	if err != nil {
		return nil, err
	}
	v, err := vm.Boot(ctx, cfg)
	if err != nil {
		return nil, err
	}
	r := &agentapi.CreateSandboxRequest{SandboxID: id, Hostname: spec.Hostname}
	if _, err := v.Agent.CreateSandbox(ctx, r); err != nil {
		v.Stop()
		return nil, err
	}
	s.vm = v
	go s.watch(v)
	go publishOOM(v)
	return v, nil
}

func (s *service) config() (vm.Config, error) {
	files, err := guest.Find()
	if err != nil {
		return vm.Config{}, err
	}
	cfg := vm.Config{Dir: s.dir, Files: files}
	if v := os.Getenv(EnvMemory); v != "" {
		if cfg.MemoryMiB, err = strconv.Atoi(v); err != nil || cfg.MemoryMiB < 256 {
			return cfg, fmt.Errorf("%s=%q is not a number of at least 256", EnvMemory, v)
		}
	}
	if path := os.Getenv(EnvInitData); path != "" {
		if cfg.InitData, err = os.ReadFile(path); err != nil {
			return cfg, fmt.Errorf("%s: %w", EnvInitData, err)
		}
	}
	return cfg, nil
}

// watch reports the VM's end, unless it was asked for.
func (s *service) watch(v *vm.VM) {
	<-v.Done()
	select {
	case <-s.shutdown:
	default:
		logrus.Errorf("sandbox %s: QEMU is gone: %v; the guest's console: %s", s.sandboxID, v.Err(), v.Console(12))
	}
}

func (s *service) container(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.containers[id]
	if c == nil {
		return nil, fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	}
	return c, nil
}

func (s *service) process(id, execID string) (*process, error) {
	c, err := s.container(id)
	if err != nil {
		return nil, err
	}
	return c.process(execID)
}

// pid is QEMU's, as Kata answers with its VMM's: CRI-O wants a live process of the host.
func (s *service) pid() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.vm == nil {
		return 0
	}
	return uint32(s.vm.PID())
}

// reserve takes an id, so that two requests for it cannot both go on.
func (s *service) reserve(c *container) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.containers[c.id] != nil {
		return fmt.Errorf("container %s: %w", c.id, errdefs.ErrAlreadyExists)
	}
	s.containers[c.id] = c
	return nil
}

func (s *service) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, id)
}

// Create makes a container, and for the sandbox container the VM first. After an error nothing is left of the
// container; the VM stays until Shutdown.
func (s *service) Create(ctx context.Context, r *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error) {
	c := newContainer(s, r)
	if err := s.reserve(c); err != nil {
		return nil, err
	}
	if err := c.create(ctx, r); err != nil {
		s.forget(c.id)
		return nil, fmt.Errorf("container %s: %w", c.id, err)
	}
	return &taskapi.CreateTaskResponse{Pid: s.pid()}, nil
}

// containerDir has the files of a container's disk.
func (s *service) containerDir(id string) (string, error) {
	if id == "" || filepath.Base(id) != id || id == "." || id == ".." {
		return "", fmt.Errorf("container id %q: %w", id, errdefs.ErrInvalidArgument)
	}
	return filepath.Join(s.dir, id), nil
}

// Shutdown ends the daemon if it is for the sandbox, or if there is none (kata-containers
// src/runtime-rs/crates/runtimes/virt_container/src/container_manager/manager.rs, is_sandbox_container, and
// runtimes/src/manager.rs). CRI-O sends it for every container.
func (s *service) Shutdown(_ context.Context, r *taskapi.ShutdownRequest) (*empty, error) {
	s.mu.Lock()
	last := r.ID == s.sandboxID || s.vm == nil
	s.mu.Unlock()
	if last {
		s.once.Do(func() { close(s.shutdown) })
	}
	return &empty{}, nil
}

var errNoVM = errors.New("there is no VM")

// agent returns the agent of a running VM.
func (s *service) agent() (*agentapi.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.vm == nil {
		return nil, fmt.Errorf("sandbox %s: %w: %w", s.sandboxID, errNoVM, errdefs.ErrFailedPrecondition)
	}
	return s.vm.Agent, nil
}
