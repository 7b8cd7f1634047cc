package matrix

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/containers/image/v5/types"
	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/measure/source"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/expected"
	"github.com/crio-erofs/crio-erofs/kata/modes"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// blocked is what Kata's agent says of what its policy does not let through (kata-containers 4.1.0,
// src/agent/src/policy.rs, allow_request).
const blocked = " is blocked by policy"

// policyRefuses runs a container of the image that the pod's init data name, and has all else refused by the agent:
// other programs in it, an image of which a volume is missing, and one of another root hash.
func policyRefuses(ctx context.Context, b *bench) (string, error) {
	if err := b.needs("agent with policies", blocked); err != nil {
		return none, err
	}
	refs, err := b.pull(ctx, small, short, single)
	if err != nil {
		return none, err
	}
	pod, err := b.measuredPod(ctx, images.Pause.Name, small)
	if err != nil {
		return none, err
	}
	_, result, err := pod.Run(ctx, crio.ContainerOptions{
		Image: refs[0], Command: []string{"sh", "-c", "cat /etc/motd >&2; " + lookCommand},
		Annotations: request(kata.ModeLayerVerity),
	})
	if err != nil {
		return none, err
	}
	seen, err := sightOf(result)
	if err != nil || result.Stderr != motd {
		return none, errors.Join(err, fmt.Errorf("the container left %+v", result))
	}
	c, err := sleeper(ctx, pod, refs[0], kata.ModeLayerVerity)
	if err != nil {
		return none, err
	}
	manifest, mode, err := manifestOf(ctx, c)
	if err != nil {
		return none, err
	}
	if err := checkVolumes(seen, modes.Volumes(mode, manifest)); err != nil {
		return notEnforced, err
	}
	_, execErr := c.Exec(ctx, "true")
	errs := []error{wantBlocked("exec", "ExecProcessRequest", execErr)}
	for _, ref := range refs[1:] {
		_, err := pod.CreateContainer(ctx, crio.ContainerOptions{Image: ref, Command: []string{"true"}})
		errs = append(errs, wantBlocked("a container of "+ref, "CreateContainerRequest", err))
	}
	if err := errors.Join(errs...); err != nil {
		return notEnforced, err
	}
	return enforced, nil
}

// policyRefusesSandbox starts a pod whose init data do not name the image of its sandbox.
func policyRefusesSandbox(ctx context.Context, b *bench) (string, error) {
	if err := b.needs("agent with policies", blocked); err != nil {
		return none, err
	}
	_, err := b.measuredPod(ctx, small)
	return none, wantBlocked("a sandbox", "CreateContainerRequest", err)
}

// wantBlocked wants an error with which the agent refused a request.
func wantBlocked(what, request string, err error) error {
	if err == nil {
		return fmt.Errorf("%s was let through", what)
	}
	if !strings.Contains(err.Error(), request+blocked) {
		return fmt.Errorf("%s was not refused by the policy: %w", what, err)
	}
	logrus.Infof("as it should be: %s: %v", what, err)
	return nil
}

// measuredPod starts a pod whose guest takes volumes of these images only.
func (b *bench) measuredPod(ctx context.Context, names ...string) (*crio.Pod, error) {
	var measured []*measure.Measurement
	for _, name := range names {
		m, err := b.measure(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", name, err)
		}
		measured = append(measured, m)
	}
	initData, err := expected.InitData(measured)
	if err != nil {
		return nil, err
	}
	annotations, err := initDataAnnotation(initData)
	if err != nil {
		return nil, err
	}
	return b.server.RunPod(ctx, crio.PodOptions{Handler: crio.HandlerVM, Annotations: annotations})
}

// initDataAnnotation returns the annotation with which a pod gives its guest init data (kata-containers 4.1.0,
// src/libs/kata-types/src/initdata.rs, add_hypervisor_initdata_overrides).
func initDataAnnotation(initData []byte) (map[string]string, error) {
	var compressed bytes.Buffer
	z := gzip.NewWriter(&compressed)
	if _, err := z.Write(initData); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	value := base64.StdEncoding.EncodeToString(compressed.Bytes())
	return map[string]string{"io.katacontainers.config.hypervisor.cc_init_data": value}, nil
}

// measure measures an image of the registry.
func (b *bench) measure(ctx context.Context, name string) (*measure.Measurement, error) {
	ref, err := b.push(ctx, name)
	if err != nil {
		return nil, err
	}
	src, err := source.Open(ctx, "docker://"+ref, source.Options{
		System: &types.SystemContext{DockerInsecureSkipTLSVerify: types.OptionalBoolTrue}})
	if err != nil {
		return nil, err
	}
	defer src.Close()
	return measure.Measure(ctx, src.Images[0], measure.Options{})
}
