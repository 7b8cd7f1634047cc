package matrix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/test/crio"
)

// skipError says what the guest lacks for a case.
type skipError string

// Error implements error.
func (e skipError) Error() string { return string(e) }

// needs returns a skipError if the guest's files do not have a text, which a program in them writes.
func (b *bench) needs(program, text string) error {
	found, file, err := b.opts.Runtime.GuestHas(text)
	if err != nil || found {
		return err
	}
	return skipError(fmt.Sprintf("%s has no %s: nowhere in it is the text %q, which that writes", file, program, text))
}

// dataHubLog is what image-rs, the part of the data hub that pulls, writes as the place of its messages.
const dataHubLog = "image_rs::"

// dataHubInitData is init data that let the data hub pull from the registry (guest-components,
// confidential-data-hub/hub/src/config and image-rs/src/registry). It wants a source of keys; this one has none.
const dataHubInitData = `version = "0.1.0"
algorithm = "sha256"

[data]
"cdh.toml" = '''
[kbc]
name = "offline_fs_kbc"

[[image.registry_config.registry]]
prefix = %[1]q
location = %[1]q
insecure = true
'''
`

// guestPull runs a container whose image the guest gets out of the registry itself; the host gives it no volume.
func guestPull(ctx context.Context, b *bench) (string, error) {
	if err := b.needs("data hub of Confidential Containers", dataHubLog); err != nil {
		return none, err
	}
	refs, err := b.pull(ctx, small)
	if err != nil {
		return none, err
	}
	annotations, err := initDataAnnotation(fmt.Appendf(nil, dataHubInitData, b.registry.Address))
	if err != nil {
		return none, err
	}
	pod, err := b.server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerVMGuestPull, Annotations: annotations})
	if err != nil {
		return none, err
	}
	before, err := b.requestsOf(ctx, pod)
	if err != nil {
		return none, err
	}
	_, result, err := pod.Run(ctx, crio.ContainerOptions{
		Image: refs[0], Command: []string{"sh", "-c", "cat /etc/motd; echo new > /new && cat /new >&2; exit 7"},
	})
	if err != nil {
		return none, err
	}
	if result.Stdout != motd || result.Stderr != "new\n" || result.ExitCode != 7 {
		return none, fmt.Errorf("the container left %+v", result)
	}
	after, err := b.requestsOf(ctx, pod)
	if err != nil {
		return none, err
	}
	logrus.Infof("the guest asked the registry %q", after)
	if len(before) > 0 || !hasPart(after, "/blobs/sha256:") {
		return none, fmt.Errorf("the guest asked the registry %q for its sandbox, and %q after its container", before, after)
	}
	c, err := sleeper(ctx, pod, refs[0], kata.ModeGuestPull)
	if err != nil {
		return none, err
	}
	return none, checkPulled(ctx, c)
}

// checkPulled looks at a container: neither it nor its pod's own has a volume of the host's.
func checkPulled(ctx context.Context, c *crio.Container) error {
	seen, err := look(ctx, c)
	if err != nil {
		return err
	}
	logrus.Infof("in the guest: root %q, device mapper %q", seen.root, seen.names)
	if strings.Contains(seen.root, "erofs") || len(seen.names) > 0 {
		return errors.New("a container whose image the guest pulled has a volume")
	}
	return nil
}

// requestsOf returns the requests that a pod has sent to the registry.
func (b *bench) requestsOf(ctx context.Context, pod *crio.Pod) ([]string, error) {
	ip, err := pod.IP(ctx)
	if err != nil {
		return nil, err
	}
	log, err := os.ReadFile(b.registry.Log)
	if err != nil {
		return nil, err
	}
	var requests []string
	for line := range strings.Lines(string(log)) {
		// Combined log format: ADDRESS - - [TIME] "REQUEST" ...
		if address, rest, ok := strings.Cut(line, " - - ["); ok && address == ip {
			_, rest, _ = strings.Cut(rest, `"`)
			request, _, _ := strings.Cut(rest, `"`)
			requests = append(requests, request)
		}
	}
	return requests, nil
}

func hasPart(all []string, part string) bool {
	for _, s := range all {
		if strings.Contains(s, part) {
			return true
		}
	}
	return false
}
