package driver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/drivers/quota"
	"github.com/containers/storage/pkg/idtools"
)

// split is a driver with a store of its own for images ("imagestore" of storage.conf and of CRI-O): the graph root has
// containers, their mounts, and images from before. The containers' driver sees the images' store as it sees additional
// image stores. What is done to images is done by another driver, which is at home there.
type split struct {
	*Driver
	images *Driver
}

// openSplit opens the images' store beside that of the containers.
func openSplit(d *Driver, root string) (graphdriver.Driver, error) {
	options := d.options
	options.quota = quota.Quota{} // is for containers
	images := newDriver(options)
	if err := images.openStore(filepath.Join(root, Name)); err != nil {
		return nil, err
	}
	if images.home == d.home {
		return nil, errors.New("it is the graph root: remove imagestore from storage.conf and from CRI-O's configuration")
	}
	s := join(d, images)
	d.useNaive(s)
	if err := images.start(); err != nil {
		return nil, err
	}
	if err := d.noteImages(images.home); err != nil {
		// On a full disk, for one.
		log.WithField(fieldPath, d.imagesLink()).WithError(err).Warn("Who opens the graph root alone does not learn where images are")
	}
	return s, nil
}

// noteImages notes in the containers' store where images are.
func (s store) noteImages(home string) error {
	if now, err := os.Readlink(s.imagesLink()); err == nil && now == home {
		return nil
	}
	fresh := s.imagesLink() + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(home, fresh); err != nil {
		return err
	}
	return os.Rename(fresh, s.imagesLink())
}

// recallImages has a driver that is not told of the store for images use it like an additional image store, or it would
// take away what containers have mounted of it. CRI-O 1.34 does not tell its child for pulls (pullImageParent in
// internal/storage/image.go, with separate_pull_cgroup), and people do not tell every program.
func (d *Driver) recallImages() {
	home, err := filepath.EvalSymlinks(d.imagesLink())
	if err != nil || home == d.home {
		return // there is none, or it is gone
	}
	images := store{home: home}
	if _, err := images.knownVersion(); err != nil {
		log.WithField(fieldPath, home).WithError(err).Warn("The store for images cannot be used")
		return
	}
	d.recalled, d.others = images, append(d.others, images)
}

// join lets the drivers of the two stores know each other's.
func join(d, images *Driver) *split {
	d.images, d.others = images, append(d.others, images.store)
	images.others = append(images.others, d.store)
	images.verified = d.verified
	return &split{Driver: d, images: images}
}

// owner returns the driver in whose store a layer is.
func (s *split) owner(id string) *Driver {
	if checkID(id) == nil && !exists(s.layerDir(id)) && exists(s.images.layerDir(id)) {
		return s.images
	}
	return s.Driver
}

// Create makes an empty layer of an image.
func (s *split) Create(id, parent string, opts *graphdriver.CreateOpts) error {
	return s.images.Create(id, parent, opts)
}

// CreateFromTemplate makes a layer with the content of the template, see Driver.CreateFromTemplate.
func (s *split) CreateFromTemplate(id, template string, templateMaps *idtools.IDMappings, parent string,
	parentMaps *idtools.IDMappings, opts *graphdriver.CreateOpts, readWrite bool) error {
	d := s.images
	if readWrite {
		d = s.Driver
	}
	return d.CreateFromTemplate(id, template, templateMaps, parent, parentMaps, opts, readWrite)
}

// ApplyDiff gives a layer its content.
func (s *split) ApplyDiff(id, parent string, opts graphdriver.ApplyDiffOpts) (int64, error) {
	return s.owner(id).ApplyDiff(id, parent, opts)
}

// Get mounts a layer on top of its ancestors and returns where.
func (s *split) Get(id string, opts graphdriver.MountOpts) (string, error) {
	return s.owner(id).Get(id, opts)
}

// Put undoes one Get.
func (s *split) Put(id string) error { return s.owner(id).Put(id) }

// Metadata tells of a layer.
func (s *split) Metadata(id string) (map[string]string, error) { return s.owner(id).Metadata(id) }

// Remove deletes a layer, mounted or not, and its volume if no other layer has it.
func (s *split) Remove(id string) error {
	owner, other := s.owner(id), s.images
	if owner == other {
		other = s.Driver
	}
	names, err := owner.imagesOf(id)
	if l, readErr := owner.readLayer(id); readErr == nil && l.Kind == kindVolume {
		names = append(names, l.Volume)
	} else {
		err = errors.Join(err, readErr)
	}
	if err := owner.Remove(id); err != nil {
		return err
	}
	other.dropMountPoints(names, err)
	return nil
}

// dropMountPoints removes the places at which volumes were mounted that are gone from all stores. If it is not known
// which are, all are looked at.
func (d *Driver) dropMountPoints(names []string, unread error) {
	d.lock.Lock()
	defer d.lock.Unlock()
	d.sweepLater(d.dropMountPointsLocked(names, unread))
}

func (d *Driver) dropMountPointsLocked(names []string, unread error) (err error) {
	if unread != nil {
		if names, err = namesIn(d.mountsDir()); err != nil {
			return err
		}
	}
	var errs []error
	for _, name := range names {
		if isVolumeName(name) && !exists(d.homeOf(name).volumePath(name)) {
			errs = append(errs, d.kept.drop(name), d.dropHostMount(name))
		}
	}
	return errors.Join(errs...)
}

// dropMounts removes the mounts of a volume that is new in the store for images: they may be of a damaged file, which it
// replaces. Overlays that are on them keep what they need.
func (d *Driver) dropMounts(name string) error {
	d.lock.Lock()
	defer d.lock.Unlock()
	return errors.Join(d.kept.drop(name), d.dropHostMount(name))
}

// ListLayers returns the ids of all layers, children before their parents.
func (s *split) ListLayers() ([]string, error) {
	containers, err := s.Driver.ListLayers()
	if err != nil {
		return nil, err
	}
	images, err := s.images.ListLayers()
	if err != nil {
		return nil, err
	}
	ids := append(containers, images...)
	s.sortByDepth(ids)
	return ids, nil
}

// Cleanup unmounts everything that the drivers have mounted.
func (s *split) Cleanup() error { return errors.Join(s.Driver.Cleanup(), s.images.Cleanup()) }

// Status returns what "podman info" and "crio status info" show of the driver.
func (s *split) Status() [][2]string {
	status := s.Driver.Status()
	for i := range status {
		if status[i][0] == imageStatusKey {
			status[i][1] = s.images.imageStatus()
		}
	}
	return append(status, [2]string{"Image store", fmt.Sprintf("%s on %s", s.images.home, s.images.backingFS)})
}

// imageRecordOf reads a layer's image.json, which may be in the store of images.
func (d *Driver) imageRecordOf(id string) (*imageRecord, error) {
	r, err := remembered[imageRecord](&d.records, d.imageRecordPath(id))
	switch {
	case !errors.Is(err, fs.ErrNotExist):
	case d.images != nil:
		return d.images.imageRecordOf(id)
	case d.recalled.home != "":
		return remembered[imageRecord](&d.records, d.recalled.imageRecordPath(id))
	}
	return r, err
}
