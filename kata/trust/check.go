package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// ErrUntrusted is matched by the errors of Check for an image that is not trusted: it has no trusted measurement, or its
// volumes have other root hashes.
var ErrUntrusted = errors.New("not trusted")

// ErrNotMeasured is matched by the error of Check for an image that has no trusted measurement. It is also an
// ErrUntrusted.
var ErrNotMeasured = fmt.Errorf("%w", ErrUntrusted)

// Enforce is Check as a runtime handler's configuration wants it: an error means that the container must not be created.
func (d *Dir) Enforce(ctx context.Context, h *modes.Handler, m *volume.Manifest, mode kata.Mode, imageID string) error {
	if !h.Enforces() {
		return nil
	}
	err := d.Check(ctx, m, mode, imageID)
	switch {
	case err == nil:
		return nil
	case h.Enforce == modes.EnforceWarn:
		logrus.WithError(err).WithFields(logrus.Fields{"handler": h.Name, "image": imageID, "mode": mode}).Warn("the container is created all the same: enforce = \"warn\"")
		return nil
	}
	return fmt.Errorf("handler %s has enforce = \"require\": %w", h.Name, err)
}

// Check returns nil if all that a container gets in this mode is what a trusted measurement of its image says.
//
// imageID is the image's id, which is the digest of its configuration without "sha256:". If it is empty, as for a pod's
// sandbox, whose image CRI-O does not tell, the measurement is found by the layers' diffIDs.
//
// In mode guest-pull nothing of the host's store gets into the guest, so there is nothing to check here.
func (d *Dir) Check(ctx context.Context, m *volume.Manifest, mode kata.Mode, imageID string) error {
	if mode == kata.ModeGuestPull {
		return nil
	}
	if !mode.Verity() {
		return fmt.Errorf("%w: mode %s lets the host change what the container reads; use %s or %s", ErrUntrusted, mode,
			kata.ModeImageVerity, kata.ModeLayerVerity)
	}
	name, configDigest := "image with layers "+strings.Join(m.DiffIDs, ", "), ""
	if imageID != "" {
		configDigest = "sha256:" + imageID
		name = "image " + configDigest
	}
	img := newImage(configDigest, m.DiffIDs)
	of, problems, err := d.of(ctx, &img)
	if err != nil {
		return err
	}
	if len(of) == 0 {
		return fmt.Errorf("%s: %w: %s has no measurement of it%s; add one with crio-erofs trust add or trust fetch", name,
			ErrNotMeasured, d.path, describe(problems))
	}
	if err := compareAll(of, m, mode); err != nil {
		return fmt.Errorf("%s: %w: %w", name, ErrUntrusted, err)
	}
	return nil
}

// describe says how many files do not count, since one of them may be the missing one.
func describe(problems []*Entry) string {
	if len(problems) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d files there do not count, the first is %s: %v)", len(problems), problems[0].Path, problems[0].Problem)
}

// format is what root hashes depend on besides the image. Measurements and volumes of different ones say nothing about
// each other.
type format struct {
	layout  volume.Layout
	version int
}

func (f format) String() string {
	return fmt.Sprintf("layout %s, format version %d", f.layout, f.version)
}

// formats returns those of a container's volumes, those of which its image volume was made included. There is more than
// one if the image shares layers with one that was pulled before the node was upgraded, or with another layout.
func formats(volumes []volume.ManifestVolume) (all []format) {
	for i := range volumes {
		if f := (format{volumes[i].Layout, volumes[i].FormatVersion}); !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

// compareAll holds the container's volumes against all measurements of their layout and format version. There is more
// than one if several sources vouch for the image. If these differ, one of them is wrong, and none decides.
func compareAll(of []*Entry, m *volume.Manifest, mode kata.Mode) error {
	volumes := modes.Volumes(mode, m)
	if len(volumes) == 0 {
		return fmt.Errorf("it has no volumes for mode %s", mode)
	}
	have := formats(slices.Concat(m.Volumes, volumes))
	if len(have) > 1 {
		return fmt.Errorf("its volumes are of several formats (%s; %s), and an image is measured for one: remove it and the "+
			"images that have layers in common with it from the node, and pull it again", have[0], have[1])
	}
	compared := 0
	for _, e := range of {
		measured := e.Measurement
		if (format{measured.Layout, measured.FormatVersion}) != have[0] {
			continue
		}
		compared++
		if err := compare(measured, m, volumes, mode); err != nil {
			return fmt.Errorf("%w (%s)", err, e.Path)
		}
	}
	if compared == 0 {
		return fmt.Errorf("it was measured for %s (%s), and the node's volumes have %s: measure it for that, with a release that "+
			"makes it (crio-erofs version), or pull the image again with one that makes what was measured",
			format{of[0].Measurement.Layout, of[0].Measurement.FormatVersion}, of[0].Path, have[0])
	}
	return nil
}

func compare(measured *measure.Measurement, m *volume.Manifest, volumes []volume.ManifestVolume, mode kata.Mode) error {
	if !slices.Equal(measured.DiffIDs(), m.DiffIDs) {
		return fmt.Errorf("the node has layers with diffIDs %s, measured were %s", m.DiffIDs, measured.DiffIDs())
	}
	if mode == kata.ModeImageVerity {
		if measured.ImageVolume == nil {
			return fmt.Errorf("measured was no image volume: %s", measured.NoImageVolume)
		}
		return compareVolume("image volume", measured, measured.ImageVolume, &volumes[0])
	}
	stack := measured.Stack()
	if len(stack) != len(volumes) {
		return fmt.Errorf("the node has %d volumes, measured were %d", len(volumes), len(stack))
	}
	for i := range stack {
		what := "volume of layer " + stack[i].DiffID
		if err := compareVolume(what, measured, &stack[i].Volume, &volumes[i]); err != nil {
			return err
		}
	}
	return nil
}

func compareVolume(what string, measured *measure.Measurement, want *measure.Volume, have *volume.ManifestVolume) error {
	if have.Verity == nil {
		return fmt.Errorf("%s %s has no dm-verity tree; measured was root hash %s", what, have.Path, want.Verity.RootHash)
	}
	if have.Verity.RootHash != want.Verity.RootHash {
		return fmt.Errorf("%s %s has root hash %s, measured was %s", what, have.Path, have.Verity.RootHash, want.Verity.RootHash)
	}
	if *have.Verity != want.Verity || have.Size != want.Size || have.Layout != measured.Layout ||
		have.FormatVersion != measured.FormatVersion {
		return fmt.Errorf("%s %s has the measured root hash %s, but is otherwise not what was measured: %+v of %d bytes, "+
			"measured were %+v of %d bytes", what, have.Path, want.Verity.RootHash, *have.Verity, have.Size, want.Verity, want.Size)
	}
	return nil
}
