package driver

import (
	"fmt"
	"maps"
	"slices"
)

// needs is what image volumes are needed for.
type needs struct {
	images  map[string]bool // top layers of images
	idle    bool            // that there is an image is not enough
	parents map[string]bool // layers on which those of containers are
	mounted map[string]bool // volumes of what is mounted
}

func (p *Pruner) needs(tops func() (map[string]bool, error), idle bool) (*needs, error) {
	layers, err := p.Layers()
	if err != nil {
		return nil, fmt.Errorf("nothing is removed while records of layers cannot be read: %w", err)
	}
	n := &needs{idle: idle, parents: map[string]bool{}, mounted: map[string]bool{}}
	for _, l := range layers {
		if l.Volume == "" { // a container's
			n.parents[l.Parent] = true
		}
	}
	if n.images, err = tops(); err != nil {
		return nil, err
	}
	for _, r := range p.stores {
		mounted, err := r.driver.mounted()
		if err != nil {
			return nil, err
		}
		used, err := r.driver.inUse(mounted)
		if err != nil {
			return nil, err
		}
		maps.Copy(n.mounted, used)
	}
	return n, nil
}

// imageVolumes takes from layers of a store the image volumes that no image or container needs.
func (p *Pruner) imageVolumes(r *Reader, n *needs) (found []Leftover, err error) {
	layers, err := r.Layers()
	if err != nil {
		return nil, err
	}
	for _, l := range layers {
		needed := n.parents[l.ID] || l.Volume == "" || n.images[l.ID] && !n.idle
		if l.ImageVolume == "" || needed || n.mounted[l.ImageVolume] && !isLayersVolume(l.ImageVolume, layers) {
			continue
		}
		why := "its image is gone, and the layer that has it is part of other images"
		if n.images[l.ID] {
			why = "no container of its image is there"
		}
		o, err := leftover(LeftoverImageVolume, r.Path(l.ImageVolume), 2, why)
		if err != nil {
			return found, err
		}
		found = append(found, o)
		if p.dryRun {
			continue
		}
		if err := r.driver.releaseImage(l.ID); err != nil {
			return found, err
		}
	}
	return found, nil
}

// isLayersVolume says whether an image volume is also the volume of a layer, which then keeps it.
func isLayersVolume(name string, layers []StoredLayer) bool {
	return slices.ContainsFunc(layers, func(l StoredLayer) bool { return l.Volume == name })
}
