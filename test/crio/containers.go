package crio

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Container is a container of a pod.
type Container struct {
	ID     string
	server *Server
	log    string
}

// ContainerOptions says what a container runs.
type ContainerOptions struct {
	Image       string
	Command     []string
	Annotations map[string]string
	Stdin, TTY  bool
	ReadOnly    bool
	Env         []string // NAME=VALUE
	Dir         string   // working directory
	User        int64    // user and group id
	Mounts      []*cri.Mount
	Memory      int64    // limit in bytes
	Args        []string // instead of the image's command, after its entry point

	DropCapabilities []string // "ALL", or names without CAP_
}

// Result is what a command left.
type Result struct {
	ExitCode       int
	Stdout, Stderr string
	Reason         string // of a container's end, as CRI-O says it: "Completed", "Error", "OOMKilled"
}

// CreateContainer creates a container and does not start it.
func (p *Pod) CreateContainer(ctx context.Context, opts ContainerOptions) (*Container, error) {
	name := fmt.Sprintf("c-%d", podNumber.Add(1))
	config := &cri.ContainerConfig{
		Metadata:    &cri.ContainerMetadata{Name: name},
		Image:       &cri.ImageSpec{Image: opts.Image, UserSpecifiedImage: opts.Image},
		Command:     opts.Command,
		Args:        opts.Args,
		Annotations: opts.Annotations,
		Stdin:       opts.Stdin,
		Tty:         opts.TTY,
		LogPath:     name + ".log",
		Labels:      labels(p.config, map[string]string{"io.kubernetes.container.name": name}),
		WorkingDir:  opts.Dir,
		Mounts:      opts.Mounts,
		Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
			ReadonlyRootfs:   opts.ReadOnly,
			NamespaceOptions: p.config.GetLinux().GetSecurityContext().GetNamespaceOptions(),
		}},
	}
	for _, v := range opts.Env {
		key, value, _ := strings.Cut(v, "=")
		config.Envs = append(config.Envs, &cri.KeyValue{Key: key, Value: value})
	}
	if id := opts.User; id != 0 {
		security := config.GetLinux().GetSecurityContext()
		security.RunAsUser, security.RunAsGroup = &cri.Int64Value{Value: id}, &cri.Int64Value{Value: id}
	}
	if opts.Memory != 0 {
		config.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: opts.Memory}
	}
	if len(opts.DropCapabilities) > 0 {
		config.Linux.SecurityContext.Capabilities = &cri.Capability{DropCapabilities: opts.DropCapabilities}
	}
	resp, err := p.server.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: p.ID, Config: config, SandboxConfig: p.config,
	})
	if err != nil {
		return nil, fmt.Errorf("create container of %s: %w", opts.Image, err)
	}
	log := filepath.Join(p.config.GetLogDirectory(), config.GetLogPath())
	return &Container{ID: resp.GetContainerId(), server: p.server, log: log}, nil
}

// Start starts the container.
func (c *Container) Start(ctx context.Context) error {
	if _, err := c.server.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: c.ID}); err != nil {
		return fmt.Errorf("start container %s: %w", c.ID, err)
	}
	return nil
}

// Run creates a container, starts it, waits for its end and returns what it left.
func (p *Pod) Run(ctx context.Context, opts ContainerOptions) (*Container, Result, error) {
	c, err := p.CreateContainer(ctx, opts)
	if err != nil {
		return nil, Result{}, err
	}
	if err := c.Start(ctx); err != nil {
		return c, Result{}, err
	}
	result, err := c.Wait(ctx)
	return c, result, err
}

// Wait waits until the container has ended.
func (c *Container) Wait(ctx context.Context) (Result, error) {
	for {
		resp, err := c.server.runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: c.ID})
		if err != nil {
			return Result{}, fmt.Errorf("wait for container %s: %w", c.ID, err)
		}
		if status := resp.GetStatus(); status.GetState() == cri.ContainerState_CONTAINER_EXITED {
			result := Result{ExitCode: int(status.GetExitCode()), Reason: status.GetReason()}
			result.Stdout, result.Stderr, err = c.Logs()
			return result, err
		}
		select {
		case <-ctx.Done():
			return Result{}, fmt.Errorf("wait for container %s: %w", c.ID, ctx.Err())
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// Logs returns what the container has written so far.
func (c *Container) Logs() (stdout, stderr string, err error) { return readLog(c.log) }

// Exec runs a command in the container and waits for its end.
func (c *Container) Exec(ctx context.Context, command ...string) (Result, error) {
	resp, err := c.server.runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: c.ID, Cmd: command, Timeout: 120})
	if err != nil {
		return Result{}, fmt.Errorf("exec %q in container %s: %w", command, c.ID, err)
	}
	return Result{ExitCode: int(resp.GetExitCode()), Stdout: string(resp.GetStdout()), Stderr: string(resp.GetStderr())}, nil
}

// Running tells whether CRI-O counts the container as running.
func (c *Container) Running(ctx context.Context) (bool, error) {
	resp, err := c.server.runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: c.ID})
	if err != nil {
		return false, fmt.Errorf("status of container %s: %w", c.ID, err)
	}
	return resp.GetStatus().GetState() == cri.ContainerState_CONTAINER_RUNNING, nil
}

// Stop ends the container, by force if it is still there after so many seconds.
func (c *Container) Stop(ctx context.Context, timeout int64) error {
	request := &cri.StopContainerRequest{ContainerId: c.ID, Timeout: timeout}
	if _, err := c.server.runtime.StopContainer(ctx, request); err != nil {
		return fmt.Errorf("stop container %s: %w", c.ID, err)
	}
	return nil
}

// Remove stops and removes the container.
func (c *Container) Remove(ctx context.Context) error {
	if err := c.Stop(ctx, stopTimeout); err != nil {
		return err
	}
	if _, err := c.server.runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: c.ID}); err != nil {
		return fmt.Errorf("remove container %s: %w", c.ID, err)
	}
	return nil
}

// Spec is the part of a container's OCI configuration that tells about volumes.
type Spec struct {
	Root struct {
		Path string `json:"path"`
	} `json:"root"`
	Annotations map[string]string `json:"annotations"`
}

// Spec returns the configuration that CRI-O gave to the runtime, with what NRI plugins changed.
func (c *Container) Spec(ctx context.Context) (Spec, error) {
	resp, err := c.server.runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: c.ID, Verbose: true})
	if err != nil {
		return Spec{}, fmt.Errorf("status of container %s: %w", c.ID, err)
	}
	return specOf(c.ID, resp.GetInfo())
}

// specOf finds the configuration in CRI-O's verbose status of a container or a sandbox.
func specOf(id string, status map[string]string) (Spec, error) {
	var info struct {
		RuntimeSpec Spec `json:"runtimeSpec"`
	}
	if err := json.Unmarshal([]byte(status["info"]), &info); err != nil {
		return Spec{}, fmt.Errorf("status of container %s: %w", id, err)
	}
	return info.RuntimeSpec, nil
}
