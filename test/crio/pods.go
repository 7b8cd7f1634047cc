package crio

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// PullImage pulls an image and returns its id.
func (s *Server) PullImage(ctx context.Context, ref string) (string, error) {
	resp, err := s.images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref}})
	if err != nil {
		return "", fmt.Errorf("pull %s: %w", ref, err)
	}
	return resp.GetImageRef(), nil
}

// RemoveImage removes an image. One that is not there is no error, as CRI wants it.
func (s *Server) RemoveImage(ctx context.Context, ref string) error {
	_, err := s.images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: ref}})
	if err != nil {
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	return nil
}

// Images returns the names of all images.
func (s *Server) Images(ctx context.Context) ([]string, error) {
	resp, err := s.images.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var names []string
	for _, image := range resp.GetImages() {
		names = append(names, image.GetRepoTags()...)
	}
	return names, nil
}

// Pod is a running pod.
type Pod struct {
	ID     string
	server *Server
	config *cri.PodSandboxConfig
}

// PodOptions says how a pod differs from the plainest one.
type PodOptions struct {
	Handler     string // HandlerRunc if empty
	HostNetwork bool
	Annotations map[string]string
	IDs         *cri.IDMapping // user and group ids on the host (hostUsers: false); nil: the host's own
}

// stopTimeout is the number of seconds that a container gets to end by itself.
const stopTimeout = 1

// podNumber makes the names of pods unique.
var podNumber atomic.Int64

// RunPod starts a pod.
func (s *Server) RunPod(ctx context.Context, opts PodOptions) (*Pod, error) {
	name := fmt.Sprintf("pod-%d", podNumber.Add(1))
	network := cri.NamespaceMode_POD
	if opts.HostNetwork {
		network = cri.NamespaceMode_NODE
	}
	config := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: "uid-" + name, Namespace: "default"},
		LogDirectory: filepath.Join(s.path("logs"), name),
		Annotations:  opts.Annotations,
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: s.cgroup(),
			SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Network: network, Pid: cri.NamespaceMode_CONTAINER},
			},
		},
	}
	if !opts.HostNetwork {
		config.Hostname = name
	}
	if opts.IDs != nil {
		config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &cri.UserNamespace{
			Mode: cri.NamespaceMode_POD, Uids: []*cri.IDMapping{opts.IDs}, Gids: []*cri.IDMapping{opts.IDs},
		}
	}
	config.Labels = labels(config, nil)
	resp, err := s.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config, RuntimeHandler: opts.Handler})
	if err != nil {
		return nil, fmt.Errorf("run pod with handler %q: %w", opts.Handler, err)
	}
	return &Pod{ID: resp.GetPodSandboxId(), server: s, config: config}, nil
}

// labels returns the labels that kubelet gives a pod and its containers.
func labels(config *cri.PodSandboxConfig, more map[string]string) map[string]string {
	l := map[string]string{
		"io.kubernetes.pod.name":      config.GetMetadata().GetName(),
		"io.kubernetes.pod.namespace": config.GetMetadata().GetNamespace(),
		"io.kubernetes.pod.uid":       config.GetMetadata().GetUid(),
	}
	maps.Copy(l, more)
	return l
}

// Remove stops and removes the pod with its containers.
func (p *Pod) Remove(ctx context.Context) error { return p.server.removePod(ctx, p.ID) }

// stopPod does what kubelet does: containers first, with a time limit each, for StopPodSandbox alone may wait for
// them as long as the call lasts.
func (s *Server) stopPod(ctx context.Context, id string) error {
	resp, err := s.runtime.ListContainers(ctx, &cri.ListContainersRequest{
		Filter: &cri.ContainerFilter{PodSandboxId: id},
	})
	if err != nil {
		return fmt.Errorf("stop pod %s: %w", id, err)
	}
	for _, c := range resp.GetContainers() {
		request := &cri.StopContainerRequest{ContainerId: c.GetId(), Timeout: stopTimeout}
		if _, err := s.runtime.StopContainer(ctx, request); err != nil {
			return fmt.Errorf("stop container %s: %w", c.GetId(), err)
		}
	}
	if _, err := s.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return fmt.Errorf("stop pod %s: %w", id, err)
	}
	return nil
}

func (s *Server) removePod(ctx context.Context, id string) error {
	if err := s.stopPod(ctx, id); err != nil {
		return err
	}
	if _, err := s.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
		return fmt.Errorf("remove pod %s: %w", id, err)
	}
	return nil
}

// RemoveAllPods stops and removes every pod that CRI-O knows.
func (s *Server) RemoveAllPods(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	resp, err := s.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	var errs []error
	for _, pod := range resp.GetItems() {
		errs = append(errs, s.removePod(ctx, pod.GetId()))
	}
	return errors.Join(errs...)
}

// Spec returns the configuration of the sandbox's own container.
func (p *Pod) Spec(ctx context.Context) (Spec, error) {
	resp, err := p.server.runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: p.ID, Verbose: true})
	if err != nil {
		return Spec{}, fmt.Errorf("status of pod %s: %w", p.ID, err)
	}
	return specOf(p.ID, resp.GetInfo())
}

// Ready tells whether CRI-O counts the pod as running.
func (p *Pod) Ready(ctx context.Context) (bool, error) {
	resp, err := p.server.runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: p.ID})
	if err != nil {
		return false, fmt.Errorf("status of pod %s: %w", p.ID, err)
	}
	return resp.GetStatus().GetState() == cri.PodSandboxState_SANDBOX_READY, nil
}

// IP returns the pod's address.
func (p *Pod) IP(ctx context.Context) (string, error) {
	resp, err := p.server.runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: p.ID})
	if err != nil {
		return "", fmt.Errorf("status of pod %s: %w", p.ID, err)
	}
	return resp.GetStatus().GetNetwork().GetIp(), nil
}

// readLog returns what a container wrote, out of the log in CRI's format: "TIME STREAM P|F CONTENT".
func readLog(path string) (stdout, stderr string, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", "", err
	}
	streams := map[string]*strings.Builder{"stdout": {}, "stderr": {}}
	for line := range strings.Lines(string(content)) {
		fields := strings.SplitN(line, " ", 4)
		if len(fields) != 4 || streams[fields[1]] == nil {
			return "", "", fmt.Errorf("log %s has the line %q", path, line)
		}
		text := fields[3]
		if fields[2] == "P" { // goes on in the next line
			text = strings.TrimSuffix(text, "\n")
		}
		streams[fields[1]].WriteString(text)
	}
	return streams["stdout"].String(), streams["stderr"].String(), nil
}
