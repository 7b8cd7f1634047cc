package driver

import (
	"errors"
	"io/fs"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// StoredLayer is a layer as the store's records have it.
type StoredLayer struct {
	ID          string
	Parent      string
	Volume      string // name of its volume; empty: it is a directory, of a container or written in place
	DiffID      string
	ImageVolume string // name of the image volume that it holds as the top layer of an image
	ReadWrite   bool   // it is a container's
}

// Layers returns the layers of the store. Those that cannot be read are left out, and the errors joined; so are
// those that are being made or removed, without an error.
func (r *Reader) Layers() ([]StoredLayer, error) {
	ids, err := namesIn(r.driver.layersDir())
	if err != nil {
		return nil, err
	}
	var errs []error
	layers := make([]StoredLayer, 0, len(ids))
	for _, id := range ids {
		l, err := r.driver.readRecord(r.driver.store, id)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s := StoredLayer{ID: id, Parent: l.Parent, Volume: l.Volume, DiffID: l.DiffID, ReadWrite: l.ReadWrite}
		image, err := r.driver.readImage(id)
		if err != nil {
			errs = append(errs, err)
		} else if image != nil {
			s.ImageVolume = image.Volume
		}
		layers = append(layers, s)
	}
	return layers, errors.Join(errs...)
}

// Has says whether a layer is in this store itself.
func (r *Reader) Has(id string) bool { return checkID(id) == nil && exists(r.driver.recordPath(id)) }

// Description returns what the store says of a volume.
func (r *Reader) Description(name string) (*volume.Description, error) {
	return r.driver.readDescription(name)
}

// LayerPaths are the places of what a layer has besides its volume.
type LayerPaths struct {
	Diff     string // what a container has written on the host
	RWLayer  string // the disk for what it writes in a VM, if it has one
	Merged   string // its mount point
	Manifest string // there while it is mounted
}

// LayerPaths returns where a layer's files are, or would be.
func (r *Reader) LayerPaths(id string) LayerPaths {
	merged := r.driver.mergedDir(id)
	return LayerPaths{Diff: r.driver.diffDir(id), RWLayer: r.driver.rwLayerPath(id), Merged: merged,
		Manifest: volume.ManifestPath(merged)}
}

// HostMount returns where a volume is mounted while containers on the host need it.
func (r *Reader) HostMount(name string) string { return r.driver.hostMount(name) }

// TemporaryDir is where things are while they are being made.
func (r *Reader) TemporaryDir() string { return r.driver.tmpDir() }
