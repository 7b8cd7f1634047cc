package driver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	graphdriver "github.com/containers/storage/drivers"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// Additional image stores are stores of this driver that others have made, on a file system that may be read-only:
// their layers can be parents of ours. Nothing is written to them and nobody's lock in them is taken, so they must
// not change while they are in use. Host mounts, image volumes and mount points are in our own store.

// addImageStores takes the values of erofs.imagestore.
func addImageStores(o *options, value string) error {
	for path := range strings.SplitSeq(value, ",") {
		if path == "" {
			continue
		}
		if !filepath.IsAbs(path) {
			return fmt.Errorf("image store %q is not an absolute path", path)
		}
		o.imageStores = append(o.imageStores, path)
	}
	return nil
}

// openImageStores makes sure that the additional image stores can be read.
func (d *Driver) openImageStores() error {
	for _, root := range d.options.imageStores {
		home, err := filepath.EvalSymlinks(filepath.Join(root, Name))
		if err != nil {
			return fmt.Errorf("additional image store %s: %w: mount it, or remove it from the option erofs.imagestore", root,
				err)
		}
		other := store{home: home}
		if home == d.home {
			return fmt.Errorf("additional image store %s is the store itself: remove it from the option erofs.imagestore", root)
		}
		if _, err := other.knownVersion(); err != nil {
			return fmt.Errorf("additional image store %s: %w", root, err)
		}
		d.others = append(d.others, other)
	}
	return nil
}

// AdditionalImageStores returns the graph roots of the additional image stores.
func (d *Driver) AdditionalImageStores() []string { return d.options.imageStores }

// storeOf returns the store in which a layer is.
func (d *Driver) storeOf(l *layer) store {
	if l.home == "" {
		return d.store
	}
	return store{home: l.home}
}

// readForeign reads the record of a layer in the additional image stores. The error matches graphdriver.ErrLayerUnknown
// if it is in none.
func (d *Driver) readForeign(id string) (*layer, error) {
	for _, other := range d.others {
		l, err := d.readRecord(other, id)
		if !errors.Is(err, graphdriver.ErrLayerUnknown) {
			return l, err
		}
	}
	return nil, fmt.Errorf("layer %s: %w", id, errors.Join(graphdriver.ErrLayerUnknown, fs.ErrNotExist))
}

// homeOf returns the store that has a volume: ours, if it has it. Volumes of one name have one content.
func (d *Driver) homeOf(name string) store {
	if len(d.others) == 0 || exists(d.volumePath(name)) {
		return d.store
	}
	for _, other := range d.others {
		if exists(other.volumePath(name)) {
			return other
		}
	}
	return d.store
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// canShare says whether a volume is on our store's file system, so that image volumes can share its blocks.
func (d *Driver) canShare(v *volume.ManifestVolume) bool {
	if v.Path == d.volumePath(nameOf(v)) {
		return true
	}
	st, err := stampOf(d.home)
	return err == nil && st.dev == v.Device
}

// shareImage has a container hold the image volume that another container of the same foreign image holds; nil: there
// is none. In our own store the image's top layer holds it for all.
func (d *Driver) shareImage(holder, key string) (*volume.ManifestVolume, error) {
	if len(d.others) == 0 {
		return nil, nil
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	ids, err := namesIn(d.layersDir())
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		v := d.findImage(id, key)
		if v == nil {
			continue
		}
		if id == holder {
			return v, nil
		}
		// It may hold one that is damaged, or of other volumes.
		if err := d.releaseImage(holder); err != nil {
			return nil, err
		}
		if err := os.Link(v.Path, d.imageLinkPath(holder)); err != nil {
			return nil, err
		}
		r := imageRecord{Version: storeVersion, Key: key, Volume: nameOf(v)}
		if err := writeJSON(d.imageRecordPath(holder), r, 0o600, whole); err != nil {
			return nil, errors.Join(err, removeAll(d.imageLinkPath(holder)))
		}
		return v, nil
	}
	return nil, nil
}
