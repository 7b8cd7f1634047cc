package matrix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
	"github.com/crio-erofs/crio-erofs/test/crio"
)

// errRead is the end of a container that read what was changed.
var errRead = errors.New("the guest read what was changed")

// victim is a pod whose containers are to be refused.
type victim struct {
	b       *bench
	pod     *crio.Pod
	image   string
	mode    kata.Mode
	volumes []volume.ManifestVolume
}

// changed changes volumes, root hashes and manifests, one at a time, and starts a container each time. What the shim
// checks it has to refuse, and the guest everything else.
func (b *bench) changed(ctx context.Context, image string, mode kata.Mode) (string, error) {
	v := victim{b: b, mode: mode}
	pod, refs, err := b.pod(ctx, image)
	if err != nil {
		return none, err
	}
	v.pod, v.image = pod, refs[0]
	c, err := sleeper(ctx, pod, refs[0], mode) // what is refused below is right but for the change
	if err != nil {
		return none, err
	}
	manifest, _, err := manifestOf(ctx, c)
	if err != nil {
		return none, err
	}
	v.volumes = modes.Volumes(mode, manifest)
	for _, where := range slices.Sorted(maps.Keys(crio.VolumeChanges)) {
		if err = v.volume(ctx, where); err != nil {
			break
		}
	}
	if err == nil {
		err = errors.Join(v.rootHash(ctx), v.manifests(ctx))
	}
	switch {
	case errors.Is(err, errRead):
		return notEnforced, err
	case err != nil:
		return none, err
	}
	return enforced, nil
}

// start starts a container that reads the image's file, and returns why that was refused.
func (v *victim) start(ctx context.Context) error {
	_, result, err := v.pod.Run(ctx, crio.ContainerOptions{
		Image: v.image, Command: []string{"cat", "/etc/motd"}, Annotations: request(v.mode),
	})
	if err == nil && result.Stdout == "" && result.ExitCode != 0 {
		err = errors.New(result.Stderr)
	}
	return err
}

// refused wants a container to be refused by the shim, or else by the guest.
func (v *victim) refused(ctx context.Context, what string, shim bool) error {
	err := v.start(ctx)
	logrus.Infof("%s, %s changed: %.400v", v.mode, what, err)
	switch {
	case err == nil:
		return fmt.Errorf("%s: %w", what, errRead)
	case strings.Contains(err.Error(), "crio-erofs: ") != shim:
		return fmt.Errorf("%s: refused by the shim should be %v: %w", what, shim, err)
	}
	return nil
}

// volume changes a byte of the volume with the file, wherever the store has it.
func (v *victim) volume(ctx context.Context, where string) error {
	changed, err := v.b.server.ChangeVolumes(motd, where)
	if err != nil {
		return errors.Join(err, crio.RestoreVolumes(changed))
	}
	own := slices.IndexFunc(changed, func(c crio.ChangedVolume) bool {
		return slices.ContainsFunc(v.volumes, func(m volume.ManifestVolume) bool { return m.Path == c.Path })
	})
	if own < 0 {
		err = fmt.Errorf("none of the container's volumes is among %+v", changed)
	} else {
		err = v.refused(ctx, where, changed[own].Shim)
	}
	return errors.Join(err, crio.RestoreVolumes(changed))
}

// rootHash changes the root hashes that Kata is to read.
func (v *victim) rootHash(ctx context.Context) error {
	file := filepath.Join(filepath.Dir(v.volumes[0].Path), volume.VerityFileName)
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	hash := v.volumes[0].Verity.RootHash
	other := bytes.ReplaceAll(content, []byte(hash), []byte(hash[1:]+hash[:1]))
	if bytes.Equal(other, content) {
		return fmt.Errorf("%s does not have %s", file, hash)
	}
	if err := os.WriteFile(file, other, 0o644); err != nil {
		return err
	}
	return errors.Join(v.refused(ctx, volume.VerityFileName, true), os.WriteFile(file, content, 0o644))
}

// manifests changes the container's manifest between hook and shim.
func (v *victim) manifests(ctx context.Context) error {
	var errs []error
	for what := range crio.ManifestChanges {
		err := v.b.editor.Try(what, func() error { return v.start(ctx) })
		if err != nil {
			errs = append(errs, fmt.Errorf("manifest with %s: %w", what, err))
		}
	}
	return errors.Join(errs...)
}
