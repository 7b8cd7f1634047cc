package driver

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

const (
	volumeFile      = volume.FileName
	descriptionFile = "volume.json"

	// volumeNameLen is how much of the root hash, or what stands for it, names a volume. Kata's runtime-rs makes a GPT
	// partition label of the directory's name, and these have room for 36 characters.
	volumeNameLen = 24
)

// contentOf identifies the content of a volume, in hex: by its root hash or, where there is no tree, by all that goes
// into it. Equal tars give equal volumes, see docs/format.md.
func contentOf(desc *volume.Description) string {
	if desc.Verity != nil {
		return desc.Verity.RootHash
	}
	from := fmt.Sprintf("crio-erofs volume without tree\n%s %d\n%s\n", desc.Layout, desc.FormatVersion, desc.DiffID)
	sum := sha256.Sum256([]byte(from))
	return hex.EncodeToString(sum[:])
}

// volumeName returns the name of the volume with this description.
func volumeName(desc *volume.Description) string { return contentOf(desc)[:volumeNameLen] }

// readDescription reads what volume.json says of a volume.
func (s store) readDescription(name string) (*volume.Description, error) {
	path := filepath.Join(s.volumeDir(name), descriptionFile)
	desc := &volume.Description{}
	if err := readJSON(path, desc); err != nil {
		return nil, fmt.Errorf("description of volume %s: %w", name, err)
	}
	if content := contentOf(desc); len(content) < volumeNameLen || content[:volumeNameLen] != name {
		return nil, fmt.Errorf("%s is of another volume, %s: the file is damaged; remove the images that use the volume "+
			"and pull them again", path, content)
	}
	return desc, nil
}

// publish makes the volume in dir the store's volume of this name, unless the store has it already, and the content of
// the layer, whose record was old. The caller holds the store's lock and has synced dir. On error the store is as it
// was, or the layer has the volume and is to be removed.
func (d *Driver) publish(dir string, desc *volume.Description, l, old *layer) error {
	err := d.addVolume(dir, l.Volume, desc)
	if err == nil {
		err = d.linkVolume(l)
	}
	if err == nil {
		// A container often follows at once.
		if v, err := d.describeVolume(l.Volume); err == nil {
			d.records.rememberOwn(v.Path, *v)
		}
		return nil
	}
	if undo := d.restoreRecord(old); undo != nil {
		// The record on the disk may name the volume, which must stay then.
		return errors.Join(err, fmt.Errorf("put back the layer's record: %w", undo))
	}
	// Without the link nobody uses the volume, if it was new.
	return errors.Join(err, removeAll(d.linkPath(l.ID)), d.dropVolume(l.Volume))
}

// restoreRecord writes a layer's record back, if it was replaced: what failed may have been the sync after that.
func (d *Driver) restoreRecord(old *layer) error {
	have, err := d.readLayer(old.ID)
	if err == nil && *have == *old {
		return nil // writing would need space, and that may be what was lacking
	}
	return d.writeLayer(old)
}

// linkVolume makes a volume the content of a layer.
func (d *Driver) linkVolume(l *layer) error {
	if err := removeAll(d.linkPath(l.ID)); err != nil {
		return err
	}
	if err := os.Link(d.volumePath(l.Volume), d.linkPath(l.ID)); err != nil {
		return err
	}
	// Syncs the layer's directory too, and with it the link.
	return d.writeLayer(l)
}

// addVolume renames dir to its place in volumes/, unless that is taken by a volume in use.
func (d *Driver) addVolume(dir, name string, desc *volume.Description) error {
	used, err := d.volumeUsed(name)
	if err != nil {
		return err
	}
	if used {
		return d.checkSame(name, desc)
	}
	// What is there is the rest of a publication or a removal that did not get to its end.
	if err := d.dropVolume(name); err != nil {
		return err
	}
	if err := os.Rename(dir, d.volumeDir(name)); err != nil {
		return err
	}
	return volume.SyncPath(d.volumesDir())
}

// checkSame makes sure that the store's volume of this name is the one described.
func (d *Driver) checkSame(name string, desc *volume.Description) error {
	have, err := d.readDescription(name)
	if err != nil {
		return err
	}
	if contentOf(have) != contentOf(desc) {
		return fmt.Errorf("volume %s has root hash %s, and the new layer's volume of that name has %s: one of them was "+
			"made to collide; remove the image that has the other, or do without this one",
			name, contentOf(have), contentOf(desc))
	}
	fi, err := os.Stat(d.volumePath(name))
	if err != nil {
		return err
	}
	if fi.Size() != desc.Size {
		return damaged(d.volumePath(name), fi.Size(), desc.Size)
	}
	return nil
}

// dropVolume deletes a volume, unless layers link to it. The file goes first: a volume without one counts as unused, so
// the next Init deletes what an interrupted dropVolume leaves. The caller holds the store's lock.
func (d *Driver) dropVolume(name string) error {
	used, err := d.volumeUsed(name)
	if err != nil || used {
		return err
	}
	if d.homeOf(name) == d.store { // else the host mount may be of the volume in another store, which has it too
		if err := errors.Join(d.kept.drop(name), d.dropHostMount(name)); err != nil {
			return err
		}
	}
	defer d.freeing.close(openLarge(d.volumePath(name)))
	if err := removeAll(d.volumePath(name)); err != nil {
		return err
	}
	d.records.forget(d.volumePath(name))
	return removeAll(d.volumeDir(name))
}

// dropHostMount removes a host mount that nobody needs, in no mount namespace: removing the mount point takes it out of
// all of them.
func (d *Driver) dropHostMount(name string) error {
	if err := unmount(d.hostMount(name)); err != nil {
		return err
	}
	if err := os.Remove(d.hostMount(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// dropAll deletes the volumes of these names that no layer links to. If something could not be read, there may be
// others: then all are looked at.
func (d *Driver) dropAll(names []string, unread error) error {
	if unread != nil {
		return d.recoverVolumes()
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, d.dropVolume(name))
	}
	return errors.Join(errs...)
}

// volumeUsed says whether layers link to a volume: one of its links is the volume's own.
func (s store) volumeUsed(name string) (bool, error) {
	var st syscall.Stat_t
	err := syscall.Lstat(s.volumePath(name), &st)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "lstat", Path: s.volumePath(name), Err: err}
	}
	return st.Nlink > 1, nil
}
