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
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// Store is a node's container storage as it was when it was read.
type Store struct {
	images     *driver.Reader // of the store that has images
	containers *driver.Reader // of the one that has containers, and images from before; most often the same
	roots      *Roots

	GraphRoot  string
	Images     []*storage.Image
	Containers []*Container
	Layers     map[string]driver.StoredLayer // by id

	// Unread is what of the driver's records could not be read.
	Unread error
}

// Open reads a node's container storage.
func Open(roots *Roots) (*Store, error) {
	s := &Store{roots: roots, GraphRoot: roots.GraphRoot, Layers: map[string]driver.StoredLayer{}}
	if err := s.openReaders(); err != nil {
		return nil, noStore(err)
	}
	// Layers last: whatever an image or container that was read stands on is there, unless it has been removed since.
	var err error
	if s.Images, err = s.readImages(); err != nil {
		return nil, err
	}
	if err := s.readContainers(); err != nil {
		return nil, err
	}
	for _, r := range s.Stores() {
		s.readLayers(r)
	}
	return s, nil
}

// openReaders opens the driver's store, or both. An image of one may have layers in the other.
func (s *Store) openReaders() (err error) {
	home := filepath.Join(s.GraphRoot, driver.Name)
	if s.roots.ImageStore == "" {
		s.images, err = driver.NewReader(home, s.roots.ImageStores...)
		s.containers = s.images
		return err
	}
	others := append(slices.Clone(s.roots.ImageStores), s.GraphRoot)
	if s.images, err = driver.NewReader(filepath.Join(s.roots.ImageStore, driver.Name), others...); err != nil {
		return err
	}
	s.containers, err = driver.NewReader(home, append(slices.Clone(s.roots.ImageStores), s.roots.ImageStore)...)
	return err
}

// Stores returns the readers of the driver's stores: one, or that of containers and that of images.
func (s *Store) Stores() []*driver.Reader {
	if s.images == s.containers {
		return []*driver.Reader{s.images}
	}
	return []*driver.Reader{s.containers, s.images}
}

// storeOf returns the reader of the store that has a volume.
func (s *Store) storeOf(volume string) *driver.Reader {
	if exists(s.images.Path(volume)) {
		return s.images
	}
	return s.containers
}

// Volumes returns the names of all volumes.
func (s *Store) Volumes() ([]string, error) {
	var all []string
	for _, r := range s.Stores() {
		names, err := r.Volumes()
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Path returns where a volume is.
func (s *Store) Path(volume string) string { return s.storeOf(volume).Path(volume) }

// DescribeImage says of which volumes an image is whose top layer is given, see driver.Reader.
func (s *Store) DescribeImage(top string) (*volume.Manifest, error) {
	if s.images.Has(top) {
		return s.images.DescribeImage(top)
	}
	return s.containers.DescribeImage(top)
}

// readImages reads what containers/storage says of images, in both places where it may have some.
func (s *Store) readImages() (images []*storage.Image, err error) {
	for _, root := range s.roots.writable() {
		if err := readRecords(filepath.Join(root, driver.Name+"-images", "images.json"), &images); err != nil {
			return nil, err
		}
	}
	return images, nil
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
	return filepath.Join(append([]string{s.GraphRoot, driver.Name + "-" + kind}, names...)...)
}

// ImageDir returns the directory with an image's manifests and configuration.
func (s *Store) ImageDir(img *storage.Image) string {
	if s.roots.ImageStore != "" {
		if dir := filepath.Join(s.roots.ImageStore, driver.Name+"-images", img.ID); exists(dir) {
			return dir
		}
	}
	return s.recordPath("images", img.ID)
}

// Gone says whether an image has been removed since the store was read.
func (s *Store) Gone(img *storage.Image) (bool, error) {
	now, err := s.readImages()
	return err == nil && !slices.ContainsFunc(now, func(i *storage.Image) bool { return i.ID == img.ID }), err
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
