package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
	"github.com/crio-erofs/crio-erofs/test/standin/rootfs"
	"github.com/crio-erofs/crio-erofs/test/standin/vm"
)

// container is a container of the sandbox.
type container struct {
	service *service
	id      string
	bundle  string

	mu     sync.Mutex // guards the rest
	vm     *vm.VM
	disks  []*vm.Disk
	dir    string
	init   *process
	execs  map[string]*process
	paused bool
}

func newContainer(s *service, r *taskapi.CreateTaskRequest) *container {
	return &container{service: s, id: r.ID, bundle: r.Bundle, execs: map[string]*process{}}
}

// create attaches the rootfs and lets the agent prepare the first process.
func (c *container) create(ctx context.Context, r *taskapi.CreateTaskRequest) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	spec, err := readSpec(r.Bundle)
	if err != nil {
		return err
	}
	if c.dir, err = c.service.containerDir(c.id); err != nil {
		return err
	}
	plan, err := rootfs.New(c.id, r.Rootfs, spec.Annotations)
	if err != nil {
		return fmt.Errorf("handler rootfs: %w", err)
	}
	if c.vm, err = c.service.machine(ctx, c.id, spec); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.release())
		}
	}()
	if err := c.attach(plan); err != nil {
		return err
	}
	addresses := make([]string, len(c.disks))
	for i, d := range c.disks {
		addresses[i] = d.Address
	}
	return c.createInGuest(ctx, r, spec, plan.At(addresses))
}

// attach plugs the container's disks into the VM.
func (c *container) attach(plan *rootfs.Plan) error {
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return err
	}
	disks, err := plan.WriteDisks(c.dir)
	if err != nil {
		return err
	}
	for _, d := range disks {
		format := vm.Raw
		if d.VMDK {
			format = vm.VMDK
		}
		disk, err := c.vm.Plug(d.Path, format, d.Writable)
		if err != nil {
			return err
		}
		c.disks = append(c.disks, disk)
	}
	return nil
}

func (c *container) createInGuest(ctx context.Context, r *taskapi.CreateTaskRequest, spec *specs.Spec,
	storages []agentapi.Storage) error {
	spec.Root.Path = storages[len(storages)-1].MountPoint
	spec.Process.Terminal = r.Terminal
	spec.Hooks = nil // of the host
	if spec.Linux != nil {
		spec.Linux.Seccomp = nil // disable_guest_seccomp is true in Kata's configuration files
	}
	if err := c.prepareMounts(ctx, spec); err != nil {
		return err
	}
	streams, err := openStreams(r.Stdin, r.Stdout, r.Stderr, r.Terminal)
	if err != nil {
		return err
	}
	_, err = c.vm.Agent.CreateContainer(ctx, &agentapi.CreateContainerRequest{
		ContainerID: c.id, Storages: storages, OCI: spec,
	})
	if err != nil {
		streams.close()
		return err
	}
	c.init = newProcess(c, "", streams)
	c.init.follow()
	return nil
}

// release undoes attach, and forgets the disk's files. What is in the guest has to be gone.
func (c *container) release() error {
	var errs []error
	for _, disk := range c.disks {
		if c.vm.Err() == nil {
			errs = append(errs, disk.Unplug())
		}
	}
	c.disks = nil
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}

func (c *container) process(execID string) (*process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.init
	if execID != "" {
		p = c.execs[execID]
	}
	if p == nil {
		return nil, fmt.Errorf("process %q of container %s: %w", execID, c.id, errdefs.ErrNotFound)
	}
	return p, nil
}

// remove ends the container and gives back what it had. Its VM may be gone already.
func (c *container) remove(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.init == nil {
		return fmt.Errorf("container %s is being created: %w", c.id, errdefs.ErrFailedPrecondition)
	}
	if c.vm.Err() == nil {
		_, err := c.vm.Agent.RemoveContainer(ctx, &agentapi.ContainerRequest{ContainerID: c.id})
		if err != nil && c.vm.Err() == nil {
			return err
		}
	}
	<-c.init.done
	for _, p := range c.execs {
		p.streams.close()
	}
	return c.release()
}

func (c *container) closeStreams() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.init != nil {
		c.init.streams.close()
	}
	for _, p := range c.execs {
		p.streams.close()
	}
}

// exit is how a process ended.
type exit struct {
	status uint32
	at     time.Time
}
