package driver

import (
	"fmt"
	"slices"

	graphdriver "github.com/containers/storage/drivers"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// stack is a layer to be mounted and all that can be known of it before the store's lock is taken. What it says of the
// layer's ancestors stays true: nobody changes or removes what has children.
type stack struct {
	chain    []*layer         // the layer first
	manifest *volume.Manifest // of a layer that is mounted writable
}

// prepare finds out what a layer consists of. Whatever takes its time is done here, without the store's lock.
func (d *Driver) prepare(id string, opts graphdriver.MountOpts) (*stack, error) {
	chain, err := d.chain(id)
	if err != nil {
		return nil, err
	}
	if home := chain[0].home; home != "" {
		return nil, fmt.Errorf("it is in the additional image store %s, and cannot be mounted by itself", home)
	}
	s := &stack{chain: chain}
	if chain[0].Kind != kindDirectory || slices.Contains(opts.Options, "ro") {
		return s, d.verifyStack(s)
	}
	if s.manifest, err = d.describe(chain); err != nil {
		return nil, err
	}
	if err := d.addRWLayer(s.manifest, opts.MountLabel); err != nil {
		return nil, err
	}
	d.addImage(s.manifest, chain)
	return s, d.verifyStack(s)
}

// writable says whether the first layer is to be mounted writable.
func (s *stack) writable() bool { return s.manifest != nil }

// below returns the layers that are lower directories of the overlay, the topmost first.
func (s *stack) below() []*layer {
	if s.writable() {
		return s.chain[1:]
	}
	return s.chain
}

// image returns the name of the image volume that takes the place of all lower directories, if there is one.
func (s *stack) image() string {
	if s.manifest == nil || s.manifest.Image == nil {
		return ""
	}
	return nameOf(s.manifest.Image)
}

// withoutCopies leaves out, of layers with the topmost first, those whose volume a layer above them has.
func withoutCopies(layers []*layer) []*layer {
	kept := slices.Clone(layers)
	slices.Reverse(kept)
	kept = volume.Distinct(kept, func(l *layer) string {
		if l.Kind == kindDirectory {
			return "directory of " + l.ID
		}
		return l.Volume
	})
	slices.Reverse(kept)
	return kept
}
