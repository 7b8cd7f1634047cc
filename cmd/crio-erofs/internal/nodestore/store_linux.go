package nodestore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/containers/storage"

	"github.com/crio-erofs/crio-erofs/driver"
)

// Store is a node's container storage as it was when it was read.
type Store struct {
	*driver.Reader                // of the store that has images
	containers     *driver.Reader // of the one that has containers, most often the same
	imageRoot      string

	GraphRoot  string
	Images     []*storage.Image
	Containers []*Container
	Layers     map[string]driver.StoredLayer // by id

	// Unread is what of the driver's records could not be read.
	Unread error
}

// Open reads a node's container storage.
func Open(roots *Roots) (*Store, error) {
	r, err := driver.NewReader(filepath.Join(roots.images(), driver.Name), roots.ImageStores...)
	if err != nil {
		return nil, noStore(err)
	}
	s := &Store{Reader: r, containers: r, imageRoot: roots.images(), GraphRoot: roots.GraphRoot, Layers: map[string]driver.StoredLayer{}}
	// Layers last: whatever an image or container that was read stands on is there, unless it has been removed since.
	if err := readRecords(s.recordPath("images", "images.json"), &s.Images); err != nil {
		return nil, err
	}
	if err := s.readContainers(); err != nil {
		return nil, err
	}
	if s.imageRoot != s.GraphRoot {
		if s.containers, err = driver.NewReader(filepath.Join(s.GraphRoot, driver.Name)); err != nil {
			return nil, err
		}
		s.readLayers(s.containers)
	}
	s.readLayers(r)
	return s, nil
}

// noStore adds to an error of a store that is not there what to do.
func noStore(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; --graphroot says where the node's container storage is", err)
	}
	return err
}

func (s *Store) readLayers(r *driver.Reader) {
	layers, err := r.Layers()
	s.Unread = errors.Join(s.Unread, err)
	for _, l := range layers {
		s.Layers[l.ID] = l
	}
}

// LayerPaths returns where a container's layer has its files.
func (s *Store) LayerPaths(id string) driver.LayerPaths { return s.containers.LayerPaths(id) }

// HostMount returns where a volume is mounted while containers on the host need it.
func (s *Store) HostMount(name string) string { return s.containers.HostMount(name) }

// recordPath returns where containers/storage 1.58 keeps its records, <graphroot>/<driver>-<kind> (store.go, load).
func (s *Store) recordPath(kind string, names ...string) string {
	root := s.GraphRoot
	if kind == "images" && s.imageRoot != "" {
		root = s.imageRoot
	}
	return filepath.Join(append([]string{root, driver.Name + "-" + kind}, names...)...)
}

// ImageDir returns the directory with an image's manifests and configuration.
func (s *Store) ImageDir(img *storage.Image) string { return s.recordPath("images", img.ID) }

// Gone says whether an image has been removed since the store was read.
func (s *Store) Gone(img *storage.Image) (bool, error) {
	var now []storage.Image
	err := readRecords(s.recordPath("images", "images.json"), &now)
	return err == nil && !slices.ContainsFunc(now, func(i storage.Image) bool { return i.ID == img.ID }), err
}

// readRecords reads a list that containers/storage keeps as JSON. It is empty if the file is not there.
func readRecords[T any](path string, list *[]T) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var more []T
	if err := json.Unmarshal(b, &more); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	*list = append(*list, more...)
	return nil
}

// Chain returns the layers that a layer stands on, itself first. It ends where a layer is not in this store.
func (s *Store) Chain(id string) []driver.StoredLayer {
	var chain []driver.StoredLayer
	for len(chain) < len(s.Layers) {
		l, ok := s.Layers[id]
		if !ok {
			break
		}
		chain = append(chain, l)
		id = l.Parent
	}
	return chain
}
