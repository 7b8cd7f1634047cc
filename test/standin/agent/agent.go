package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// Agent answers the shim's calls.
type Agent struct {
	ooms chan string // ids of containers in which a process was killed for want of memory

	mu         sync.Mutex
	containers map[string]*container
}

var _ agentapi.Agent = (*Agent)(nil)

// New returns an agent without containers.
func New() *Agent {
	return &Agent{ooms: make(chan string, oomBacklog), containers: map[string]*container{}}
}

// Check tells the shim that the guest is up.
func (a *Agent) Check(context.Context, *agentapi.Empty) (*agentapi.GuestDetails, error) {
	kernel, err := kernelRelease()
	return &agentapi.GuestDetails{Kernel: kernel}, err
}

func kernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// CreateSandbox makes the pod's shared memory and names the guest.
func (a *Agent) CreateSandbox(_ context.Context, r *agentapi.CreateSandboxRequest) (*agentapi.Empty, error) {
	if err := os.MkdirAll(agentapi.ShmDir, 0o755); err != nil {
		return nil, err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("shm", agentapi.ShmDir, "tmpfs", flags, "mode=1777"); err != nil {
		return nil, fmt.Errorf("mount %s: %w", agentapi.ShmDir, err)
	}
	if r.Hostname == "" {
		return &agentapi.Empty{}, nil
	}
	return &agentapi.Empty{}, unix.Sethostname([]byte(r.Hostname))
}

// CreateContainer mounts a container's storages and prepares its first process.
func (a *Agent) CreateContainer(_ context.Context, r *agentapi.CreateContainerRequest) (*agentapi.Empty, error) {
	if r.OCI == nil || r.OCI.Process == nil || r.OCI.Root == nil {
		return nil, fmt.Errorf("container %s: OCI configuration without process or root: %w", r.ContainerID,
			errdefs.ErrInvalidArgument)
	}
	a.mu.Lock()
	if a.containers[r.ContainerID] != nil {
		a.mu.Unlock()
		return nil, fmt.Errorf("container %s: %w", r.ContainerID, errdefs.ErrAlreadyExists)
	}
	c := &container{id: r.ContainerID, execs: map[string]*execProcess{},
		oomKill: func() { a.reportOOM(r.ContainerID) }}
	a.containers[r.ContainerID] = c
	a.mu.Unlock()
	if err := c.create(r); err != nil {
		a.forget(r.ContainerID)
		return nil, err
	}
	return &agentapi.Empty{}, nil
}

func (a *Agent) forget(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.containers, id)
}

func (a *Agent) container(id string) (*container, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.containers[id]
	if c == nil {
		return nil, fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	}
	return c, nil
}

// process returns a running or ended process.
func (a *Agent) process(r agentapi.ProcessRequest) (*process, error) {
	c, err := a.container(r.ContainerID)
	if err != nil {
		return nil, err
	}
	return c.process(r.ExecID)
}

// StartContainer lets the first process go.
func (a *Agent) StartContainer(_ context.Context, r *agentapi.ContainerRequest) (*agentapi.Empty, error) {
	p, err := a.process(agentapi.ProcessRequest{ContainerID: r.ContainerID})
	if err != nil {
		return nil, err
	}
	if err := p.run(); err != nil {
		return nil, fmt.Errorf("container %s: %w", r.ContainerID, err)
	}
	return &agentapi.Empty{}, nil
}

// RemoveContainer kills what is left of a container and unmounts its storages.
func (a *Agent) RemoveContainer(_ context.Context, r *agentapi.ContainerRequest) (*agentapi.Empty, error) {
	c, err := a.container(r.ContainerID)
	if err != nil {
		return nil, err
	}
	if err := c.remove(); err != nil {
		return nil, fmt.Errorf("remove container %s: %w", r.ContainerID, err)
	}
	a.forget(r.ContainerID)
	return &agentapi.Empty{}, nil
}

// CopyFile writes to a file below SharedDir, as Kata's agent confines it (rpc.rs, do_copy_file).
func (a *Agent) CopyFile(_ context.Context, r *agentapi.CopyFileRequest) (*agentapi.Empty, error) {
	if !strings.HasPrefix(r.Path, agentapi.SharedDir+"/") || filepath.Clean(r.Path) != r.Path {
		return nil, fmt.Errorf("copy to %q, which is not below %s: %w", r.Path, agentapi.SharedDir,
			errdefs.ErrInvalidArgument)
	}
	if err := copyFile(r); err != nil {
		return nil, fmt.Errorf("copy to %s: %w", r.Path, err)
	}
	return &agentapi.Empty{}, nil
}

func copyFile(r *agentapi.CopyFileRequest) error {
	if err := os.MkdirAll(filepath.Dir(r.Path), 0o755); err != nil {
		return err
	}
	mode := os.FileMode(r.Mode & 0o777)
	switch r.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err := os.Mkdir(r.Path, mode); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	case unix.S_IFLNK:
		if err := os.Symlink(string(r.Data), r.Path); err != nil {
			return err
		}
		return os.Lchown(r.Path, r.UID, r.GID)
	default:
		f, err := os.OpenFile(r.Path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, mode)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(r.Data, r.Offset)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return errors.Join(os.Lchown(r.Path, r.UID, r.GID), os.Chmod(r.Path, mode))
}

// Pids lists the processes of a container.
func (a *Agent) Pids(_ context.Context, r *agentapi.ContainerRequest) (*agentapi.PidsResponse, error) {
	c, err := a.container(r.ContainerID)
	if err != nil {
		return nil, err
	}
	pids, err := c.cgroup.pids()
	return &agentapi.PidsResponse{Pids: pids}, err
}

// Stats reads a container's cgroup.
func (a *Agent) Stats(_ context.Context, r *agentapi.ContainerRequest) (*agentapi.StatsResponse, error) {
	c, err := a.container(r.ContainerID)
	if err != nil {
		return nil, err
	}
	return c.cgroup.stats()
}

// PauseContainer freezes a container's processes.
func (a *Agent) PauseContainer(_ context.Context, r *agentapi.ContainerRequest) (*agentapi.Empty, error) {
	return a.freeze(r.ContainerID, "1")
}

// ResumeContainer thaws a container's processes.
func (a *Agent) ResumeContainer(_ context.Context, r *agentapi.ContainerRequest) (*agentapi.Empty, error) {
	return a.freeze(r.ContainerID, "0")
}

func (a *Agent) freeze(id, value string) (*agentapi.Empty, error) {
	c, err := a.container(id)
	if err != nil {
		return nil, err
	}
	return &agentapi.Empty{}, c.cgroup.write("cgroup.freeze", value)
}

// sorted returns the containers in the order of their ids.
func (a *Agent) sorted() []*container {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []*container
	for _, c := range a.containers {
		all = append(all, c)
	}
	slices.SortFunc(all, func(x, y *container) int { return strings.Compare(x.id, y.id) })
	return all
}
