package driver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// recover removes what dead processes have left half-made. The order matters: layers in tmp/ hold links to volumes. The
// caller holds the store's lock.
func (d *Driver) recover() error {
	for _, step := range []func() error{
		d.clearTmp, d.recoverLayers, d.recoverQuotas, d.recoverVolumes, d.releaseMounts, d.recoverDevices,
		d.recoverTemplates,
	} {
		if err := step(); err != nil {
			return fmt.Errorf("clean up store %s: %w", d.home, err)
		}
	}
	return nil
}

// recoverLayers removes layers that were never finished, and links of layers that were about to become volume layers,
// or to hold an image volume.
func (d *Driver) recoverLayers() error {
	entries, err := os.ReadDir(d.layersDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		id := e.Name()
		l, err := d.readRecord(d.store, id) // an additional image store may have this layer, too
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if d.isForeign(id) {
				warnForeign(d.layerDir(id))
				continue
			}
			log.WithField(fieldLayer, id).Info("Removing a layer that was not finished")
			if err := d.removeLocked(id); err != nil {
				return err
			}
		case err != nil:
			// Not ours to throw away: it may be a container's data.
			log.WithField(fieldLayer, id).WithError(err).Error("The layer cannot be read, and stays")
		default:
			if err := d.recoverLinks(l); err != nil {
				return err
			}
		}
	}
	return nil
}

// isEmptyFile tells a file that is just being written, or was not written before its writer died or the power failed:
// file systems make a file as long as it is only once its data are on the disk.
func isEmptyFile(path string) bool {
	fi, err := os.Lstat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Size() == 0
}

// recoverLinks removes a layer's links to volumes that its records do not speak of.
func (d *Driver) recoverLinks(l *layer) error {
	if l.Kind == kindDirectory {
		if err := os.Remove(d.linkPath(l.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return d.recoverImage(l.ID)
}

// recoverVolumes removes volumes that no layer links to, and mount points of volumes that are gone.
func (d *Driver) recoverVolumes() error {
	for _, dir := range []string{d.volumesDir(), d.mountsDir()} {
		names, err := namesIn(dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			if !isVolumeName(name) {
				warnForeign(filepath.Join(dir, name))
				continue
			}
			if err := d.dropVolume(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func namesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}
