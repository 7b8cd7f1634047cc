package matrix

import (
	"context"
	"fmt"
	"strings"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/test/crio"
)

// sideBySide runs pods in all modes at once, from one store: one in a VM that shares a directory with the host, one with
// containers of the modes given, and one with runc. The first of these modes is also that of a container in the first VM.
func (b *bench) sideBySide(ctx context.Context, own ...kata.Mode) (string, error) {
	verity := none
	config := handlerTable(crio.HandlerVM, own...) +
		handlerTable(crio.HandlerVMLayer, append([]kata.Mode{kata.ModeSharedFS}, own...)...)
	err := b.configured(config, func() (err error) {
		pod, refs, err := b.pod(ctx, small)
		if err != nil {
			return err
		}
		var running []*crio.Container
		if running, verity, err = all(ctx, pod, refs[0], own); err != nil {
			return err
		}
		shared, err := b.sharing(ctx, refs[0], own[0])
		if err != nil {
			return err
		}
		plain, err := b.plainly(ctx, refs[0])
		if err != nil {
			return err
		}
		return readAll(ctx, append(append(running, shared...), plain))
	})
	return verity, err
}

// all starts a container in each mode.
func all(ctx context.Context, pod *crio.Pod, image string, modes []kata.Mode) (all []*crio.Container, verity string, err error) {
	var seen sight
	verity = none
	for _, mode := range modes {
		c, err := sleeper(ctx, pod, image, mode)
		if err != nil {
			return nil, none, fmt.Errorf("%s: %w", mode, err)
		}
		var got string
		if got, seen, err = inspect(ctx, c, seen.names); err != nil {
			return nil, got, fmt.Errorf("%s: %w", mode, err)
		}
		if mode.Verity() {
			verity = got
		}
		all = append(all, c)
	}
	return all, verity, nil
}

// sharing starts a pod in a VM that shares a directory with the host, with a container that has its image there and one
// that has it in mode.
func (b *bench) sharing(ctx context.Context, image string, mode kata.Mode) ([]*crio.Container, error) {
	pod, err := b.server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerVMLayer})
	if err != nil {
		return nil, err
	}
	shared, err := sleeper(ctx, pod, image, kata.ModeSharedFS)
	if err != nil {
		return nil, err
	}
	seen, err := look(ctx, shared)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(seen.root, " - virtiofs ") || len(seen.names) > 0 {
		return nil, fmt.Errorf("%s: the container's root is %q, device mapper has %q", kata.ModeSharedFS, seen.root, seen.names)
	}
	c, err := sleeper(ctx, pod, image, mode)
	if err != nil {
		return nil, fmt.Errorf("%s in a VM that shares a directory: %w", mode, err)
	}
	_, _, err = inspect(ctx, c, nil)
	return []*crio.Container{shared, c}, err
}

// plainly starts a pod without a VM.
func (b *bench) plainly(ctx context.Context, image string) (*crio.Container, error) {
	pod, err := b.server.RunPod(ctx, crio.PodOptions{})
	if err != nil {
		return nil, err
	}
	c, err := pod.CreateContainer(ctx, crio.ContainerOptions{Image: image, Command: []string{"sleep", "100000"}})
	if err != nil {
		return nil, err
	}
	return c, c.Start(ctx)
}

// readAll reads the image's file in containers.
func readAll(ctx context.Context, containers []*crio.Container) error {
	for _, c := range containers {
		r, err := c.Exec(ctx, "cat", "/etc/motd")
		if err != nil {
			return err
		}
		if r.Stdout != motd || r.ExitCode != 0 {
			return fmt.Errorf("container %s read %+v", c.ID, r)
		}
	}
	return nil
}

// disk runs containers that write more than there is room for on the disk that those without verity have.
func (b *bench) disk(ctx context.Context, modes ...kata.Mode) (string, error) {
	return none, b.configured(handlerTable(crio.HandlerVM, modes...), func() error {
		pod, refs, err := b.pod(ctx, small)
		if err != nil {
			return err
		}
		for _, mode := range modes {
			if err := pod.ProbeDisk(ctx, refs[0], request(mode), !mode.Verity()); err != nil {
				return fmt.Errorf("%s: %w", mode, err)
			}
		}
		return nil
	})
}
