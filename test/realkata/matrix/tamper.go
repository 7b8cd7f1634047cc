package matrix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/crio"
)

// errRead is the end of a container that read what was changed.
var errRead = errors.New("the guest read what was changed")

// refusals are the words of the shim, true, and of the guest: the container's own, which reads a file, or the agent's.
var refusals = map[bool]*regexp.Regexp{
	true:  regexp.MustCompile(`crio-erofs: `),
	false: regexp.MustCompile(`Input/output error|failed to mount /dev/mapper/kata-verity-.* EIO`),
}

// changed changes volumes, root hashes and manifests, one at a time, and starts a container each time. What the shim
// checks it has to refuse, and the guest everything else.
func (s *subject) changed(ctx context.Context) error {
	for _, where := range slices.Sorted(maps.Keys(crio.VolumeChanges)) {
		if err := s.volume(ctx, where); err != nil {
			return err
		}
	}
	return errors.Join(s.rootHash(ctx), s.manifests(ctx))
}

// start starts a container that reads the image's file, and returns why that was refused.
func (s *subject) start(ctx context.Context) error {
	_, result, err := s.pod.Run(ctx, crio.ContainerOptions{
		Image: s.image, Command: []string{"cat", "/etc/motd"}, Annotations: request(s.mode),
	})
	if err == nil && result.Stdout == "" && result.ExitCode != 0 {
		err = errors.New(result.Stderr)
	}
	return err
}

// refused wants a container to be refused by the shim, or else by the guest.
func (s *subject) refused(ctx context.Context, what string, shim bool) error {
	err := s.start(ctx)
	logrus.Infof("%s, %s changed: %.400v", s.mode, what, err)
	switch {
	case err == nil:
		return fmt.Errorf("%s: %w", what, errRead)
	case !refusals[shim].MatchString(err.Error()):
		return fmt.Errorf("%s: the refusal should match %q: %w", what, refusals[shim], err)
	}
	return nil
}

// volume changes a byte of the volume with the file, wherever the store has it.
func (s *subject) volume(ctx context.Context, where string) error {
	changed, err := s.b.server.ChangeVolumes(motd, where)
	if err != nil {
		return errors.Join(err, crio.RestoreVolumes(changed))
	}
	own := slices.IndexFunc(changed, func(c crio.ChangedVolume) bool {
		return slices.ContainsFunc(s.volumes, func(m volume.ManifestVolume) bool { return m.Path == c.Path })
	})
	if own < 0 {
		err = fmt.Errorf("none of the container's volumes is among %+v", changed)
	} else {
		err = s.refused(ctx, where, changed[own].Shim)
	}
	return errors.Join(err, crio.RestoreVolumes(changed))
}

// rootHash changes the root hashes that Kata is to read.
func (s *subject) rootHash(ctx context.Context) error {
	file := filepath.Join(filepath.Dir(s.volumes[0].Path), volume.VerityFileName)
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	hash := s.volumes[0].Verity.RootHash
	other := bytes.ReplaceAll(content, []byte(hash), []byte(hash[1:]+hash[:1]))
	if bytes.Equal(other, content) {
		return fmt.Errorf("%s does not have %s", file, hash)
	}
	if err := os.WriteFile(file, other, 0o644); err != nil {
		return err
	}
	return errors.Join(s.refused(ctx, volume.VerityFileName, true), os.WriteFile(file, content, 0o644))
}

// manifests changes the container's manifest between hook and shim.
func (s *subject) manifests(ctx context.Context) error {
	var errs []error
	for what := range crio.ManifestChanges {
		err := s.b.editor.Try(what, func() error { return s.start(ctx) })
		if err != nil {
			errs = append(errs, fmt.Errorf("manifest with %s: %w", what, err))
		}
	}
	return errors.Join(errs...)
}
