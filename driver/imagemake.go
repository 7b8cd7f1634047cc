package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// makeImage merges volumes, the lowest first, to the image volume that the layer holder shall have. The store's lock is
// taken only to publish it. Who makes the same one at the same time, in whatever process, waits for the first and takes
// its.
func (d *Driver) makeImage(holder, key string, volumes []volume.ManifestVolume) (_ *volume.ManifestVolume, err error) {
	lock, err := lockDir(d.layerDir(holder), unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if v := d.findImage(holder, key); v != nil {
		return v, nil
	}
	d.lock.Lock()
	t, err := d.newTmp()
	d.lock.Unlock()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.remove()) }()
	dir := filepath.Join(t.path, "volume")
	if err := os.Mkdir(dir, dirMode); err != nil {
		return nil, err
	}
	desc, err := d.mergeVolumes(dir, volumes)
	if err != nil {
		return nil, err
	}
	return d.publishImage(dir, desc, holder, key)
}

// mergeVolumes writes the union of volumes and what belongs to it to dir, and syncs it all.
func (d *Driver) mergeVolumes(dir string, volumes []volume.ManifestVolume) (*volume.Description, error) {
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
		desc, stats, err := volume.Merge(context.Background(), out, layers)
		if err == nil {
			logrus.Debugf("Image volume of %d layers: %d bytes shared, %d copied", len(layers), stats.SharedBytes,
				stats.CopiedBytes)
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
func (d *Driver) publishImage(dir string, desc *volume.Description, holder, key string) (_ *volume.ManifestVolume, err error) {
	d.lock.Lock()
	defer d.lock.Unlock()
	if _, err := d.readLayer(holder); err != nil {
		return nil, fmt.Errorf("the image went away meanwhile: %w", err)
	}
	name := volumeName(desc)
	old := d.imagesOf(holder)
	if err := errors.Join(removeAll(d.imageRecordPath(holder)), removeAll(d.imageLinkPath(holder))); err != nil {
		return nil, err
	}
	if err := d.dropAll(old); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeAll(d.imageLinkPath(holder)), d.dropVolume(name))
		}
	}()
	if err := d.repairImage(dir, name, desc); err != nil {
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
	return d.describeVolume(name)
}

// repairImage puts a new image volume in the place of a damaged one that other images hold as well. They get the new
// file, too. A damaged volume that is a layer's stays: images do not repair layers.
func (d *Driver) repairImage(dir, name string, desc *volume.Description) error {
	used, err := d.volumeUsed(name)
	if err != nil || !used || d.checkSame(name, desc) == nil {
		return err
	}
	holders, err := d.holdersOf(name)
	if err != nil {
		return err
	}
	logrus.Warnf("Replacing the damaged image volume %s, which layers %v hold", name, holders)
	if err := unmount(d.hostMount(name)); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, volumeFile), d.volumePath(name)); err != nil {
		return err
	}
	for _, id := range holders {
		if err := removeAll(d.imageLinkPath(id)); err != nil {
			return err
		}
		if err := os.Link(d.volumePath(name), d.imageLinkPath(id)); err != nil {
			return err
		}
	}
	return nil
}

// holdersOf returns the layers that hold a volume as their image volume. It is an error if one has it as its content.
func (d *Driver) holdersOf(name string) ([]string, error) {
	ids, err := namesIn(d.layersDir())
	if err != nil {
		return nil, err
	}
	var holders []string
	for _, id := range ids {
		if same, _ := sameFile(d.linkPath(id), d.volumePath(name)); same {
			return nil, fmt.Errorf("layer %s has the volume %s, which is damaged: remove its images and pull them again", id, name)
		}
		if same, _ := sameFile(d.imageLinkPath(id), d.volumePath(name)); same {
			holders = append(holders, id)
		}
	}
	return holders, nil
}
