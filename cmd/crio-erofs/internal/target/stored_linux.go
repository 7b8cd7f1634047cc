package target

import (
	"errors"
	"fmt"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
)

// findStored finds an image or container in the store.
func findStored(roots *nodestore.Roots, arg string) (*Target, error) {
	s, err := nodestore.Open(roots)
	if err != nil {
		return nil, notStored(arg, err)
	}
	img, err := s.FindImage(arg)
	if errors.Is(err, nodestore.ErrNotFound) {
		var c *nodestore.Container
		if c, err = s.FindContainer(arg); errors.Is(err, nodestore.ErrNotFound) {
			return nil, notStored(arg, fmt.Errorf("%w in %s", nodestore.ErrNotFound, roots.GraphRoot))
		}
		if err == nil {
			return stored(s, arg, s.Layers[c.LayerID].Parent)
		}
	}
	if err != nil {
		return nil, err
	}
	return stored(s, arg, img.TopLayer)
}

func stored(s *nodestore.Store, label, top string) (*Target, error) {
	m, err := s.DescribeImage(top)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", label, err)
	}
	if m.Refusal != "" {
		return nil, fmt.Errorf("%s has no volumes: %s", label, m.Refusal)
	}
	t := &Target{Label: label, Stacked: true, Manifest: m}
	for i := range m.Volumes {
		t.Volumes = append(t.Volumes, m.Volumes[i].Path)
	}
	return t, nil
}
