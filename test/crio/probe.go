package crio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// probeScript prints what a container sees of what was asked for. Its directory is not in the image.
const probeScript = `echo "$GREETING"; pwd; id -u; id -g; cat /etc/hostname
cat /mnt/in/note
if echo x 2>/dev/null > /mnt/in/new; then echo wrote; else echo refused; fi
if echo x 2>/dev/null > /mnt/out/new; then echo wrote; else echo refused; fi
if echo x 2>/dev/null > /etc/new; then echo wrote; else echo refused; fi
exit 9
`

const probeAnswer = `hello, "there"
/srv/not in the image
1234
1234
%s
a note
refused
wrote
refused
`

// Probe runs a container with environment, working directory, user and volumes, and compares what it sees. The image has
// a shell and the GNU core utilities; dir is for the volumes.
func (p *Pod) Probe(ctx context.Context, image, dir string) error {
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	err := errors.Join(os.MkdirAll(in, 0o755), os.MkdirAll(out, 0o777), os.Chmod(out, 0o777),
		os.WriteFile(filepath.Join(in, "note"), []byte("a note\n"), 0o644))
	if err != nil {
		return err
	}
	_, result, err := p.Run(ctx, ContainerOptions{
		Image: image, Command: []string{"sh", "-c", probeScript}, Env: []string{`GREETING=hello, "there"`},
		Dir: "/srv/not in the image", User: 1234, Mounts: []*cri.Mount{
			{ContainerPath: "/mnt/in", HostPath: in, Readonly: true}, {ContainerPath: "/mnt/out", HostPath: out},
		},
	})
	if err != nil {
		return err
	}
	want := fmt.Sprintf(probeAnswer, p.config.GetHostname())
	if result.Stdout != want || result.Stderr != "" || result.ExitCode != 9 {
		return fmt.Errorf("a container with environment, directory, user and volumes left %+v; want %q", result, want)
	}
	return nil
}

// lifeScript ends with a status of its own when it is asked to.
const lifeScript = `trap 'echo bye; exit 5' TERM; echo here; echo there >&2; while :; do sleep 0.1; done`

// ProbeLife starts a container on a read-only root, runs commands in it at once, asks it to end, and kills one that does
// not heed that.
func (p *Pod) ProbeLife(ctx context.Context, image string) error {
	c, err := p.CreateContainer(ctx, ContainerOptions{Image: image, Command: []string{"sh", "-c", lifeScript}, ReadOnly: true})
	if err != nil {
		return err
	}
	if err := c.Start(ctx); err != nil {
		return err
	}
	results := make(chan error)
	for i := range 3 {
		go func() { results <- c.probeExec(ctx, i) }()
	}
	for range 3 {
		err = errors.Join(err, <-results)
	}
	if err != nil {
		return err
	}
	if err := c.probeEnd(ctx, 30, Result{ExitCode: 5, Stdout: "here\nbye\n", Stderr: "there\n", Reason: "Error"}); err != nil {
		return err
	}
	c, err = p.CreateContainer(ctx, ContainerOptions{Image: image, Command: []string{"sh", "-c", `trap "" TERM; sleep 1000`}})
	if err != nil {
		return err
	}
	return errors.Join(c.Start(ctx), c.probeEnd(ctx, stopTimeout, Result{ExitCode: 137, Reason: "Error"}))
}

// probeExec runs a command that cannot write to the root.
func (c *Container) probeExec(ctx context.Context, status int) error {
	script := fmt.Sprintf("{ echo x > /new; } 2>&1; echo note >&2; exit %d", status)
	r, err := c.Exec(ctx, "sh", "-c", script)
	if err != nil {
		return err
	}
	if r.ExitCode != status || r.Stderr != "note\n" || !strings.HasSuffix(r.Stdout, "Read-only file system\n") {
		return fmt.Errorf("%q in a container with a read-only root left %+v", script, r)
	}
	return nil
}

// probeEnd stops a container and compares what it left.
func (c *Container) probeEnd(ctx context.Context, timeout int64, want Result) error {
	if err := c.Stop(ctx, timeout); err != nil {
		return err
	}
	got, err := c.Wait(ctx)
	if err == nil && got != want {
		err = fmt.Errorf("a container that was stopped left %+v; want %+v", got, want)
	}
	return err
}

// diskScript writes more than the disk of a container has room for, and after that as much as it has.
const diskScript = `head -c 24M /dev/zero > /large; echo $?; rm /large; echo room > /small && cat /small`

// ProbeDisk runs a container that wants to write 24 MiB. Where it writes to a smaller disk that has to end with ENOSPC.
func (p *Pod) ProbeDisk(ctx context.Context, image string, annotations map[string]string, disk bool) error {
	_, r, err := p.Run(ctx, ContainerOptions{
		Image: image, Command: []string{"sh", "-c", diskScript}, Annotations: annotations,
	})
	if err != nil {
		return err
	}
	want := "0\nroom\n"
	if disk {
		want = "1\nroom\n"
	}
	if full := strings.Contains(r.Stderr, "No space left on device"); full != disk || r.Stdout != want {
		return fmt.Errorf("a container that writes 24 MiB left %+v", r)
	}
	return nil
}

// What ProbeOOM runs. The container's writable layer is in the guest's memory, and the kernel cannot take that back.
const (
	// OOMFirst has the container's first process killed.
	OOMFirst = "exec head -c 100M /dev/zero > /large"

	// OOMChild has another one killed, and the container ends like it a while later. Kata's agent (4.1.0,
	// src/agent/rustjail/src/cgroups/notifier.rs, register_memory_event_v2) stops to watch a container's memory when its
	// last process has ended, which may be before it hears of the kill.
	// The file has to go, without a further process, before there is memory for one.
	OOMChild = "head -c 100M /dev/zero > /large; status=$?; : > /large; sleep 1; exit $status"
)

// ProbeOOM runs a container that wants more memory than it may have. Its end has to say so.
func (p *Pod) ProbeOOM(ctx context.Context, image, script string) error {
	_, result, err := p.Run(ctx, ContainerOptions{
		Image: image, Command: []string{"sh", "-c", script}, Memory: 32 << 20,
	})
	if err != nil {
		return err
	}
	if result.ExitCode != 137 || result.Reason != "OOMKilled" {
		return fmt.Errorf("a container that wants too much memory left %+v; want 137 and OOMKilled", result)
	}
	return nil
}
