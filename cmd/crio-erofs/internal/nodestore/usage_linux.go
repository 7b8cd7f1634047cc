package nodestore

import (
	"errors"
	"io/fs"
	"maps"
	"slices"

	"github.com/containers/storage"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// Kinds of volumes.
const (
	KindLayer = "layer" // what became of a layer; it can be the volume of a whole image, too
	KindImage = "image" // the union of an image's layers
	KindNone  = "none"  // nobody has it
)

// Volume is a volume of the store, and who has it.
type Volume struct {
	Name     string        `json:"name"`
	Kind     string        `json:"kind"`
	Path     string        `json:"path"`
	Layout   volume.Layout `json:"layout,omitempty"`
	RootHash string        `json:"root_hash,omitempty"`
	Size     int64         `json:"size"`
	driver.DiskUsage
	Layers     []string `json:"layers"` // ids of those that are it, or hold it as their image's
	Images     []string `json:"images"` // ids
	Containers []string `json:"containers"`
	Problem    string   `json:"problem,omitempty"` // why the store's record of it cannot be read
}

// Cost is what the volume adds to what is on the disk. Image volumes share most of their blocks with layers' volumes,
// where they can, and those count as the layers'.
func (v *Volume) Cost() int64 {
	if v.Kind == KindImage {
		return v.Private()
	}
	return v.Allocated
}

// Inventory is what is in a store and who needs it.
type Inventory struct {
	*Store
	Volumes map[string]*Volume // by name
}

// TakeInventory looks at all volumes of the store.
func (s *Store) TakeInventory() (*Inventory, error) {
	inv := &Inventory{Store: s, Volumes: map[string]*Volume{}}
	names, err := s.Volumes()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		v := &Volume{Name: name, Kind: KindNone, Path: s.Path(name), Layers: []string{}, Images: []string{}, Containers: []string{}}
		if v.DiskUsage, err = driver.FileUsage(v.Path); errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile, or half-made
		}
		if err != nil {
			return nil, err
		}
		if d, err := s.storeOf(name).Description(name); err != nil {
			v.Problem = err.Error()
		} else {
			v.Layout, v.Size = d.Layout, d.Size
			if d.Verity != nil {
				v.RootHash = d.Verity.RootHash
			}
		}
		inv.Volumes[name] = v
	}
	inv.addUsers()
	return inv, nil
}

func (inv *Inventory) addUsers() {
	for _, id := range slices.Sorted(maps.Keys(inv.Layers)) {
		l := inv.Layers[id]
		if v := inv.Volumes[l.Volume]; v != nil {
			v.Kind, v.Layers = KindLayer, append(v.Layers, id)
		}
		if v := inv.Volumes[l.ImageVolume]; v != nil && l.ImageVolume != l.Volume {
			v.Layers = append(v.Layers, id)
			if v.Kind == KindNone {
				v.Kind = KindImage
			}
		}
	}
	for _, img := range inv.Images {
		for _, v := range inv.OfImage(img) {
			v.Images = append(v.Images, img.ID)
		}
	}
	for _, c := range inv.Containers {
		for _, v := range inv.ofLayer(inv.Layers[c.LayerID].Parent) {
			v.Containers = append(v.Containers, c.ID)
		}
	}
}

// OfImage returns the volumes of an image's layers, each once, the lowest first, and last its image volume, if it has one.
func (inv *Inventory) OfImage(img *storage.Image) []*Volume { return inv.ofLayer(img.TopLayer) }

func (inv *Inventory) ofLayer(top string) (volumes []*Volume) {
	chain := inv.Chain(top)
	for _, l := range slices.Backward(chain) {
		if v := inv.Volumes[l.Volume]; v != nil && !slices.Contains(volumes, v) {
			volumes = append(volumes, v)
		}
	}
	if len(chain) > 0 {
		if v := inv.Volumes[chain[0].ImageVolume]; v != nil && !slices.Contains(volumes, v) {
			volumes = append(volumes, v)
		}
	}
	return volumes
}

// Sorted returns the volumes by name.
func (inv *Inventory) Sorted() []*Volume {
	volumes := make([]*Volume, 0, len(inv.Volumes))
	for _, name := range slices.Sorted(maps.Keys(inv.Volumes)) {
		volumes = append(volumes, inv.Volumes[name])
	}
	return volumes
}

// ContainersOf returns the containers of an image.
func (s *Store) ContainersOf(img *storage.Image) (containers []*Container) {
	for _, c := range s.Containers {
		if c.ImageID == img.ID {
			containers = append(containers, c)
		}
	}
	return containers
}
