package driver

import "fmt"

// chain returns the layer and its ancestors, the layer first. They are not to be changed.
func (d *Driver) chain(id string) ([]*layer, error) {
	l, err := d.readLayer(id)
	if err != nil {
		return nil, err
	}
	if l.Parent == "" {
		return []*layer{l}, nil
	}
	// Before the ancestors are read: what is remembered is not to be newer than this.
	now, stampErr := stampOf(d.recordPath(l.Parent))
	if known, ok := d.records.recall(chainName(l.Parent), now); ok && stampErr == nil {
		return append([]*layer{l}, known.([]*layer)...), nil
	}
	below, err := d.ancestors(l)
	if err != nil {
		return nil, err
	}
	if stampErr == nil && allVolumes(below) {
		d.records.remember(chainName(l.Parent), now, below)
	}
	return append([]*layer{l}, below...), nil
}

// chainName is under what name the chain of a layer is remembered, for as long as the layer's record is the same:
// nothing below it changes.
func chainName(id string) string { return "chain of " + id }

// ancestors reads the layers below a layer, its parent first.
func (d *Driver) ancestors(l *layer) ([]*layer, error) {
	var below []*layer
	for next := l.Parent; next != ""; {
		if len(below) == maxChain {
			return nil, fmt.Errorf("layer %s: %w", l.ID, errTooDeep)
		}
		l, err := d.readLayer(next)
		if err != nil {
			return nil, err
		}
		below = append(below, l)
		next = l.Parent
	}
	return below, nil
}

// allVolumes says whether layers never change any more: directory layers can become volume layers.
func allVolumes(layers []*layer) bool {
	for _, l := range layers {
		if l.Kind != kindVolume {
			return false
		}
	}
	return true
}

// volumesOf returns the names of the volumes in a chain.
func volumesOf(chain []*layer) []string {
	var names []string
	for _, l := range chain {
		if l.Kind == kindVolume {
			names = append(names, l.Volume)
		}
	}
	return names
}
