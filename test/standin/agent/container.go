package agent

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// container is a container of the pod.
type container struct {
	id      string
	oomKill func() // called when the kernel has killed one of the container's processes for want of memory
	cgroup  cgroup

	mu     sync.Mutex
	rootfs *rootfs
	ooms   *os.File // watches for such kills
	init   *process
	execs  map[string]*execProcess
}

// execProcess is a further process; the id is taken before the process exists.
type execProcess struct{ *process }

// newNamespaces are those of a container. Kata shares IPC and UTS namespaces in a pod; the pod's shared memory is
// shared here too, by a bind mount.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWCGROUP

// create leaves nothing behind after an error.
func (c *container) create(r *agentapi.CreateContainerRequest) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() {
		if err != nil {
			err = errors.Join(err, c.release())
		}
	}()
	diffIDs, err := wanted.check(r)
	if err != nil {
		return err
	}
	if c.rootfs, err = mountStorages(c.id, r.Storages, diffIDs); err != nil {
		return err
	}
	var res *specs.LinuxResources
	if r.OCI.Linux != nil {
		res = r.OCI.Linux.Resources
	}
	if c.cgroup, err = newCgroup(c.id, res); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	if c.ooms, err = c.cgroup.watchOOM(c.oomKill); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	r.OCI.Root.Path = c.rootfs.bundle
	p, err := prepare(r.OCI.Process)
	if err != nil {
		return err
	}
	p.cmd.SysProcAttr.Cloneflags = newNamespaces
	c.init, err = c.startIn(p, &childConfig{Spec: r.OCI, Process: r.OCI.Process})
	return err
}

// startIn starts a process that is born into the container's cgroup.
func (c *container) startIn(p *prepared, cfg *childConfig) (*process, error) {
	dir, err := os.Open(string(c.cgroup))
	if err != nil {
		p.closeAll()
		return nil, err
	}
	defer dir.Close()
	p.cmd.SysProcAttr.UseCgroupFD, p.cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	return p.start(cfg)
}

// exec starts a further process, in the namespaces of the first one.
func (c *container) exec(id string, spec *specs.Process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.init == nil || !c.init.running():
		return fmt.Errorf("container %s does not run: %w", c.id, errdefs.ErrFailedPrecondition)
	case c.execs[id] != nil:
		return fmt.Errorf("process %s of container %s: %w", id, c.id, errdefs.ErrAlreadyExists)
	}
	p, err := prepare(spec)
	if err != nil {
		return err
	}
	ns := fmt.Sprintf("/proc/%d/ns/", c.init.cmd.Process.Pid)
	mnt, err := os.Open(ns + "mnt")
	if err != nil {
		p.closeAll()
		return err
	}
	p.theirs = append(p.theirs, mnt)
	p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, mnt)
	return onThread(func() error {
		for _, name := range []string{"ipc", "uts", "pid", "cgroup"} {
			if err := join(ns + name); err != nil {
				p.closeAll()
				return err
			}
		}
		child, err := c.startIn(p, &childConfig{JoinMountNS: true, Process: spec})
		if err == nil {
			err = child.run()
		}
		if err == nil {
			c.execs[id] = &execProcess{child}
		}
		return err
	})
}

// join makes this thread, or for a PID namespace its children, a member of a namespace.
func join(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), 0); err != nil {
		return fmt.Errorf("join %s: %w", path, err)
	}
	return nil
}

func (c *container) process(execID string) (*process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if execID == "" {
		if c.init == nil {
			return nil, fmt.Errorf("container %s has no process: %w", c.id, errdefs.ErrNotFound)
		}
		return c.init, nil
	}
	p := c.execs[execID]
	if p == nil {
		return nil, fmt.Errorf("process %s of container %s: %w", execID, c.id, errdefs.ErrNotFound)
	}
	return p.process, nil
}

func (c *container) removeProcess(execID string) error {
	p, err := c.process(execID)
	if err != nil {
		return err
	}
	if execID == "" {
		return fmt.Errorf("the first process of container %s: %w", c.id, errdefs.ErrInvalidArgument)
	}
	p.kill()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.execs, execID)
	return nil
}

// signalAll sends a signal to every process of the container.
func (c *container) signalAll(sig syscall.Signal) error {
	pids, err := c.cgroup.pids()
	if err != nil {
		return err
	}
	var errs []error
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("signal %d to process %d: %w", sig, pid, err))
		}
	}
	return errors.Join(errs...)
}

func (c *container) remove() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.release()
}

// release undoes create. With the first process, the kernel kills all others of its PID namespace.
func (c *container) release() error {
	var errs []error
	if c.cgroup != "" {
		errs = append(errs, c.cgroup.write("cgroup.freeze", "0"))
	}
	if c.init != nil {
		c.init.kill()
		c.init = nil
	}
	for id, p := range c.execs {
		p.kill()
		delete(c.execs, id)
	}
	if c.rootfs != nil {
		errs = append(errs, c.rootfs.unmount())
		c.rootfs = nil
	}
	if c.ooms != nil {
		errs = append(errs, c.ooms.Close())
		c.ooms = nil
	}
	if c.cgroup != "" {
		errs = append(errs, c.cgroup.remove())
		c.cgroup = ""
	}
	return errors.Join(errs...)
}
