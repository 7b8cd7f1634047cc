package crio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

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
