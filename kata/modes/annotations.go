package modes

import (
	"fmt"
	"strings"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
)

// Annotations returns all annotations of this project that a container in mode m has, but the pod's own
// kata.AnnotationRequest. The hook sets them, the shim wants to find exactly them.
//
// Without dm-verity in the mode there is none in the annotations, also where the volumes have it: a reader must not
// think that somebody verifies what nobody does.
func Annotations(m kata.Mode, offer Offer) (map[string]string, error) {
	set := map[string]string{kata.AnnotationMode: string(m)}
	switch m {
	case kata.ModeSharedFS:
		return set, nil
	case kata.ModeGuestPull:
		return set, describePull(set, offer)
	}
	if offer.Manifest == nil {
		return nil, fmt.Errorf("mode %s without a manifest", m)
	}
	volumes := Volumes(m, offer.Manifest)
	if len(volumes) == 0 {
		return nil, fmt.Errorf("mode %s without volumes", m)
	}
	hashes := make([]string, len(volumes))
	for i := range volumes {
		v := volumes[i]
		if !m.Verity() {
			v.Verity = nil
		} else if v.Verity == nil {
			return nil, fmt.Errorf("volume %s has no dm-verity tree", v.Path)
		} else {
			hashes[i] = v.Verity.RootHash
		}
		if err := describeVolume(set, i, m, &v); err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Path, err)
		}
	}
	if m.Verity() {
		set[kata.AnnotationRootHash] = strings.Join(hashes, ",")
	}
	return set, nil
}

func describeVolume(set map[string]string, n int, m kata.Mode, v *volume.ManifestVolume) error {
	if m.Image() {
		return encode(set, n, kata.NewImageVolume(v), kata.NewImageOption(v))
	}
	return encode(set, n, kata.NewLayerVolume(v), kata.NewLayerOption(v))
}

// describePull writes what a guest needs to pull the image itself. Of the RFC's option only the labels are used
// (confidential-containers#137), so the image's name is one of them, as it is with containerd.
func describePull(set map[string]string, offer Offer) error {
	if offer.Reference == "" {
		return fmt.Errorf("mode %s without an image's name", kata.ModeGuestPull)
	}
	option, err := kata.NewPullOption(offer.Labels)
	if err != nil {
		return err
	}
	return encode(set, 0, kata.NewGuestPullVolume(offer.Reference, offer.Labels), option)
}

func encode(set map[string]string, n int, virtual *kata.VirtualVolume, option *kata.ExtraOption) (err error) {
	if set[kata.VolumeKey(n)], err = virtual.Encode(); err != nil {
		return err
	}
	set[kata.ExtraOptionKey(n)], err = option.Encode()
	return err
}
