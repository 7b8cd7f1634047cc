package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// imageVolume returns the image volume of this key that a layer holds, and makes it if it is not there. Who makes the same
// one at the same time, in whatever process, waits for the first and takes its, or its failure.
func (d *Driver) imageVolume(ctx context.Context, key, holder string, volumes []volume.ManifestVolume) (*volume.ManifestVolume,
	error) {
	if v := d.findImage(holder, key); v != nil {
		return v, nil
	}
	// Where each container holds the volume, as of images in additional image stores, there is no layer for all to lock.
	lockable := d.layerDir(holder)
	if volumes[len(volumes)-1].LayerID != holder {
		lockable = d.volumesDir()
	}
	lock, err := lockDir(lockable, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if v := d.findImage(holder, key); v != nil {
		return v, nil
	}
	if v, err := d.shareImage(holder, key); err != nil || v != nil {
		return v, err
	}
	if err := d.failures.recent(key); err != nil {
		return nil, err
	}
	v, err := d.makeImage(ctx, holder, key, volumes)
	if ctx.Err() == nil && exists(d.recordPath(holder)) { // else it failed because of that, and the image may come again
		d.failures.note(key, err)
	}
	return v, err
}

// makeImage merges volumes, the lowest first, to the image volume that the layer holder shall have. The store's lock is
// taken only to publish it.
func (d *Driver) makeImage(ctx context.Context, holder, key string, volumes []volume.ManifestVolume) (
	_ *volume.ManifestVolume, err error) {
	d.freeing.wait() // the volume may need the space of what was just removed
	d.lock.Lock()
	t, err := d.newTmp()
	d.lock.Unlock()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.remove()) }()
	dir := filepath.Join(t.path, "volume")
	b := building{start: time.Now(), kind: imagesBuilt, layer: holder, dir: dir}
	defer func() { d.count(&b, err) }()
	if err := os.Mkdir(dir, dirMode); err != nil {
		return nil, err
	}
	if b.desc, err = d.mergeVolumes(ctx, dir, volumes); err != nil {
		return nil, err
	}
	return d.publishImage(dir, b.desc, holder, key)
}

// mergeVolumes writes the union of volumes and what belongs to it to dir, and syncs it all.
func (d *Driver) mergeVolumes(ctx context.Context, dir string, volumes []volume.ManifestVolume) (*volume.Description,
	error) {
	layers := make([]volume.Layer, len(volumes))
	for i := range volumes {
		f, err := os.Open(volumes[i].Path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		layers[i] = volume.Layer{File: f, RootHash: volumes[i].Verity.RootHash}
	}
	desc, err := writeVolume(dir, func(out *os.File) (*volume.Description, error) {
		desc, stats, err := volume.Merge(ctx, out, layers)
		if err == nil {
			log.WithFields(logrus.Fields{"layers": len(layers), "shared": stats.SharedBytes, "copied": stats.CopiedBytes}).
				Debug("Merged volumes; shared and copied are bytes")
		}
		return desc, err
	})
	if err != nil {
		return nil, fmt.Errorf("merge %d volumes: %w", len(volumes), err)
	}
	// It is made of what other mounts have shown to be readable. Still, the kernel must take it before it is used.
	mnt, err := d.openVolumeFile(filepath.Join(dir, volumeFile))
	if err != nil {
		return nil, err
	}
	return desc, mnt.Close()
}

// publishImage makes the volume in dir one of the store's, unless the store has it, and has the layer hold it.
func (d *Driver) publishImage(dir string, desc *volume.Description, holder, key string) (_ *volume.ManifestVolume,
	err error) {
	d.lock.Lock()
	defer d.lock.Unlock()
	if _, err := d.readLayer(holder); err != nil {
		return nil, fmt.Errorf("the image went away meanwhile: %w", err)
	}
	name := volumeName(desc)
	if err := d.releaseImage(holder); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeAll(d.imageLinkPath(holder)), d.dropVolume(name))
		}
	}()
	if err := d.repairImage(name, desc); err != nil {
		return nil, err
	}
	if err := d.addVolume(dir, name, desc); err != nil {
		return nil, err
	}
	if err := os.Link(d.volumePath(name), d.imageLinkPath(holder)); err != nil {
		return nil, err
	}
	// The record is whole or not there after a power failure, and without it the volume is made again.
	r := imageRecord{Version: storeVersion, Key: key, Volume: name}
	if err := writeJSON(d.imageRecordPath(holder), r, 0o600, whole); err != nil {
		return nil, err
	}
	d.verifySoon(name)
	return d.describeVolume(name)
}

// releaseImage takes a layer's image volume from it. The caller holds the store's lock.
func (d *Driver) releaseImage(holder string) error {
	volumes, unread := d.imagesOf(holder)
	if err := errors.Join(removeAll(d.imageRecordPath(holder)), removeAll(d.imageLinkPath(holder))); err != nil {
		return err
	}
	return d.dropAll(volumes, unread)
}

// repairImage removes an image volume that is there and damaged, so that a new one can take its place.
func (d *Driver) repairImage(name string, desc *volume.Description) error {
	used, err := d.volumeUsed(name)
	if err != nil || !used || d.checkSame(name, desc) == nil {
		return err
	}
	return d.removeDamaged(name)
}

// removeDamaged removes the file of a damaged image volume. Other images that hold it have a link to a file then that
// is not the volume's, and get the new one with their next container. A damaged volume that is a layer's stays: images
// do not repair layers.
func (d *Driver) removeDamaged(name string) error {
	ids, err := namesIn(d.layersDir())
	if err != nil {
		return err
	}
	for _, id := range ids {
		if same, _ := sameFile(d.linkPath(id), d.volumePath(name)); same {
			return fmt.Errorf("layer %s has the volume %s, which is damaged: remove its images and pull them again", id, name)
		}
	}
	log.WithField(fieldVolume, name).Warn("Removing a damaged image volume")
	return removeAll(d.volumePath(name))
}

// discardImage takes a layer's image volume from it, which is damaged, and from all others. The damaged file is named,
// because another process may have put a new one in its place meanwhile.
func (d *Driver) discardImage(holder string, bad volume.FileID) error {
	d.lock.Lock()
	defer d.lock.Unlock()
	names, err := d.imagesOf(holder)
	if err != nil {
		return err
	}
	for _, name := range names {
		if v, err := d.describeVolume(name); err == nil && v.FileID != bad {
			continue
		}
		if err := d.removeDamaged(name); err != nil {
			return err
		}
	}
	return d.releaseImage(holder)
}
