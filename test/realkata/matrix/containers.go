package matrix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
	"github.com/crio-erofs/crio-erofs/test/crio"
)

const motd = "This file came out of an EROFS volume.\n"

// configured does something while the configuration of modes is another.
func (b *bench) configured(config string, do func() error) error {
	own, err := os.ReadFile(b.server.ConfigFile())
	if err != nil {
		return err
	}
	if err := b.server.SetConfig(config); err != nil {
		return err
	}
	return errors.Join(do(), b.server.SetConfig(string(own)))
}

// handlerTable is a handler's table in that configuration. The first mode is for pods that request none.
func handlerTable(handler string, modes ...kata.Mode) string {
	return fmt.Sprintf("[handlers.%s]\nmodes = %s\n", handler, strings.ReplaceAll(fmt.Sprintf("%q", modes), `" "`, `", "`))
}

// subject is a pod whose containers have an image in a mode.
type subject struct {
	b       *bench
	pod     *crio.Pod
	image   string
	mode    kata.Mode
	volumes []volume.ManifestVolume
}

// container starts a pod with a container, looks at it, and takes further steps.
func (b *bench) container(ctx context.Context, image string, mode kata.Mode, steps ...step) (string, error) {
	pod, refs, err := b.pod(ctx, image)
	if err != nil {
		return none, err
	}
	c, err := sleeper(ctx, pod, refs[0], mode)
	if err != nil {
		return none, err
	}
	manifest, _, err := manifestOf(ctx, c)
	if err != nil {
		return none, err
	}
	verity, err := judge(ctx, pod, c)
	s := &subject{b: b, pod: pod, image: refs[0], mode: mode, volumes: modes.Volumes(mode, manifest)}
	for _, step := range steps {
		if err == nil {
			err = step(s, ctx)
		}
	}
	if errors.Is(err, errRead) {
		verity = notEnforced
	}
	return verity, err
}

// output runs a container that requests no mode, and compares what it left.
func (s *subject) output(ctx context.Context) error {
	c, result, err := s.pod.Run(ctx, crio.ContainerOptions{
		Image: s.image, Command: []string{"sh", "-c", "cat /etc/motd; echo new > /new && cat /new >&2; exit 7"},
	})
	if err != nil {
		return err
	}
	if result.Stdout != motd || result.Stderr != "new\n" || result.ExitCode != 7 {
		return fmt.Errorf("the container left %+v", result)
	}
	if _, got, err := manifestOf(ctx, c); err != nil || got != s.mode {
		return errors.Join(err, fmt.Errorf("the container, which requests no mode, has %q, not %s", got, s.mode))
	}
	return nil
}

// sleeper starts a container that does nothing, and requests a mode.
func sleeper(ctx context.Context, pod *crio.Pod, image string, mode kata.Mode) (*crio.Container, error) {
	c, err := pod.CreateContainer(ctx, crio.ContainerOptions{
		Image: image, Command: []string{"sleep", "100000"}, Annotations: request(mode),
	})
	if err != nil {
		return nil, err
	}
	if _, got, err := manifestOf(ctx, c); err != nil || got != mode {
		return nil, errors.Join(err, fmt.Errorf("the container has mode %q, not %s", got, mode))
	}
	return c, c.Start(ctx)
}

// request has a container request a mode, instead of its pod.
func request(mode kata.Mode) map[string]string {
	return map[string]string{kata.AnnotationRequest: string(mode)}
}

// judge compares what the guest has with the host's manifests of a pod and of its running container.
func judge(ctx context.Context, pod *crio.Pod, c *crio.Container) (string, error) {
	verity, seen, err := inspect(ctx, c, nil)
	if err != nil || verity != enforced {
		return verity, err
	}
	spec, err := pod.Spec(ctx)
	if err != nil {
		return none, err
	}
	manifest, err := volume.ReadManifest(spec.Root.Path)
	if err != nil {
		return none, err
	}
	if err := checkDevices(seen, manifest.Volumes); err != nil {
		return notEnforced, fmt.Errorf("the sandbox's own container: %w", err)
	}
	return enforced, nil
}

// inspect compares what the guest has with the host's manifest of a running container. Device mapper's devices of the
// names before are of others.
func inspect(ctx context.Context, c *crio.Container, before []string) (verity string, seen sight, err error) {
	manifest, mode, err := manifestOf(ctx, c)
	if err != nil {
		return none, seen, err
	}
	if seen, err = look(ctx, c); err != nil {
		return none, seen, err
	}
	logrus.Infof("in the guest: root %q, device mapper %q", seen.root, seen.names)
	volumes := modes.Volumes(mode, manifest)
	if !mode.Verity() {
		return none, seen, checkPlain(seen, volumes, before)
	}
	if err := checkVolumes(seen, volumes); err != nil {
		return notEnforced, seen, err
	}
	return enforced, seen, nil
}

// manifestOf returns a container's manifest and mode.
func manifestOf(ctx context.Context, c *crio.Container) (*volume.Manifest, kata.Mode, error) {
	spec, err := c.Spec(ctx)
	if err != nil {
		return nil, "", err
	}
	manifest, err := volume.ReadManifest(spec.Root.Path)
	return manifest, kata.Mode(spec.Annotations[kata.AnnotationMode]), err
}

// process is about what a container's process sees, what can be done with it, and about its end for want of memory.
func process(ctx context.Context, b *bench) (string, error) {
	pod, refs, err := b.pod(ctx, small)
	if err != nil {
		return none, err
	}
	return none, errors.Join(pod.Probe(ctx, refs[0], filepath.Join(b.opts.Dir, "volumes")), pod.ProbeLife(ctx, refs[0]),
		pod.ProbeOOM(ctx, refs[0], crio.OOMChild))
}

// restarted kills CRI-O and starts it again while a pod runs: the new one finds the proxy, and the pod takes another
// container.
func restarted(mode kata.Mode) run {
	return func(ctx context.Context, b *bench) (string, error) { return b.restart(ctx, mode) }
}

func (b *bench) restart(ctx context.Context, mode kata.Mode) (string, error) {
	pod, refs, err := b.pod(ctx, small, single)
	if err != nil {
		return none, err
	}
	c, err := sleeper(ctx, pod, refs[0], mode)
	if err != nil {
		return none, err
	}
	b.server.Kill()
	if err := b.server.Run(ctx); err != nil {
		return none, err
	}
	for _, ask := range []func(context.Context) (bool, error){pod.Ready, c.Running} {
		if yes, err := ask(ctx); err != nil || !yes {
			return none, errors.Join(errors.New("CRI-O no longer counts pod and container as running"), err)
		}
	}
	if verity, err := judge(ctx, pod, c); err != nil {
		return verity, err
	}
	if c, err = sleeper(ctx, pod, refs[1], mode); err != nil {
		return none, err
	}
	return judge(ctx, pod, c)
}

// refused wants the shim to refuse the sandbox: this runtime cannot verify.
func refused(ctx context.Context, b *bench) (string, error) {
	_, _, err := b.pod(ctx)
	if err == nil {
		return none, errors.New("a pod started on a runtime that cannot verify volumes")
	}
	if !strings.Contains(err.Error(), "Go runtime") {
		return none, err
	}
	return none, nil
}
