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
	"github.com/containers/storage/pkg/system"
)

// Create makes an empty layer, which ApplyDiff turns into a volume layer.
func (d *Driver) Create(id, parent string, opts *graphdriver.CreateOpts) error {
	return d.create(id, parent, opts, false)
}

// CreateReadWrite makes an empty layer that stays writable, for a container.
func (d *Driver) CreateReadWrite(id, parent string, opts *graphdriver.CreateOpts) error {
	return d.create(id, parent, opts, true)
}

// CreateFromTemplate makes a layer with the content of the template: a child of it, as overlay does. The template
// must not be removed before its copy.
func (d *Driver) CreateFromTemplate(id, template string, _ *idtools.IDMappings, _ string, _ *idtools.IDMappings,
	opts *graphdriver.CreateOpts, readWrite bool) error {
	return d.create(id, template, opts, readWrite)
}

func (d *Driver) create(id, parent string, opts *graphdriver.CreateOpts, readWrite bool) error {
	if err := checkID(id); err != nil {
		return err
	}
	owner, limit, err := d.prepareCreate(opts, readWrite)
	if err != nil {
		return fmt.Errorf("create layer %s: %w", id, err)
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	l := &layer{Version: storeVersion, ID: id, Parent: parent, Kind: kindDirectory, Depth: 1, ReadWrite: readWrite}
	root := rootAttrs{Mode: defaultRoot.Mode, UID: owner.UID, GID: owner.GID}
	if parent != "" {
		if root, err = d.inherit(l); err != nil {
			return fmt.Errorf("create layer %s: %w", id, err)
		}
	}
	if _, err := os.Lstat(d.layerDir(id)); err == nil {
		log.WithField(fieldLayer, id).Warn("Removing a layer that is there already, to create it anew")
		if err := d.removeLocked(id); err != nil {
			return fmt.Errorf("remove the layer %s that is in the way of a new one: %w", id, err)
		}
	}
	if err := d.makeLayer(l, root, owner, limit); err != nil {
		return fmt.Errorf("create layer %s: %w", id, errors.Join(err, removeAll(d.layerDir(id)), d.removeQuota(id)))
	}
	return nil
}

// prepareCreate takes the options of a new layer apart: root's ids on the host, and the limit of what is written to it.
func (d *Driver) prepareCreate(opts *graphdriver.CreateOpts, readWrite bool) (owner idtools.IDPair, limit quota.Quota,
	err error) {
	if opts == nil {
		opts = &graphdriver.CreateOpts{}
	}
	if limit, err = d.limitOf(opts.StorageOpt, readWrite); err != nil {
		return owner, limit, err
	}
	if opts.IDMappings == nil || opts.IDMappings.Empty() {
		return owner, limit, nil
	}
	owner.UID, owner.GID, err = idtools.GetRootUIDGID(opts.IDMappings.UIDs(), opts.IDMappings.GIDs())
	return owner, limit, err
}

// inherit counts the layers below a new layer, and returns the attributes of its parent's root directory. A layer of an
// image must leave room for a container: it is better not to pull an image than to find that it cannot run.
func (d *Driver) inherit(l *layer) (rootAttrs, error) {
	parent, err := d.readLayer(l.Parent)
	if err != nil {
		return rootAttrs{}, fmt.Errorf("parent: %w", err)
	}
	below, err := d.depth(parent)
	if err != nil {
		return rootAttrs{}, fmt.Errorf("parent: %w", err)
	}
	if below > maxChain || (below == maxChain && !l.ReadWrite) {
		return rootAttrs{}, errTooDeep
	}
	l.Depth = below + 1
	return d.rootOf(parent)
}

// makeLayer makes a layer's directory, its record last: a directory without a record is half-made (see recoverLayers).
// The directory is closed to all but the layer's root user, or local users could reach the programs in it.
func (d *Driver) makeLayer(l *layer, root rootAttrs, owner idtools.IDPair, limit quota.Quota) (err error) {
	if err := mkdir(d.layerDir(l.ID), 0o700, owner.UID, owner.GID); err != nil {
		return err
	}
	if err := mkdir(d.mergedDir(l.ID), 0o700, owner.UID, owner.GID); err != nil {
		return err
	}
	base := d.layerDir(l.ID)
	if limit != (quota.Quota{}) {
		if base, err = d.newQuota(l.ID, limit); err != nil {
			return err
		}
	}
	diff, work := filepath.Join(base, filepath.Base(d.diffDir(l.ID))), filepath.Join(base, filepath.Base(d.workDir(l.ID)))
	if err := errors.Join(mkdirRoot(diff, root), mkdir(work, 0o700, owner.UID, owner.GID)); err != nil {
		return err
	}
	if base != d.layerDir(l.ID) {
		if err := errors.Join(os.Rename(diff, d.diffDir(l.ID)), os.Rename(work, d.workDir(l.ID))); err != nil {
			return err
		}
	}
	// A power failure may take a new container's layer away, as it takes what was written to it: no container waits for
	// the disk. Then its record is lost or empty (see recoverLayers). ApplyDiff makes images durable.
	how := whole
	if l.ReadWrite {
		how = fleeting
	}
	return d.writeRecord(l, how)
}

// Remove deletes a layer, mounted or not, and its volume if no other layer has it. That there is no such layer is no
// error.
func (d *Driver) Remove(id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	return d.removeLocked(id)
}

// removeLocked removes in place and writes nothing, so that it also works on a full disk. The record goes first: what
// is left after a crash counts as half-made, and the next Init removes it.
func (d *Driver) removeLocked(id string) error {
	if _, err := os.Lstat(d.layerDir(id)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	l, err := d.readRecord(d.store, id)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.WithField(fieldLayer, id).WithError(err).Warn("Removing the layer all the same")
	}
	volumes, unread := d.imagesOf(id)
	unread = errors.Join(unread, err)
	if l != nil && l.Kind == kindVolume {
		volumes = append(volumes, l.Volume)
	}
	mounted := isMountPoint(d.mergedDir(id))
	if mounted {
		if err := unmount(d.mergedDir(id)); err != nil {
			return fmt.Errorf("remove layer %s: %w", id, err)
		}
	}
	for _, path := range []string{d.recordPath(id), d.linkPath(id), d.imageLinkPath(id), d.layerDir(id)} {
		if err := removeAll(path); err != nil {
			return fmt.Errorf("remove layer %s: %w", id, err)
		}
	}
	d.records.forget(d.recordPath(id), d.imageRecordPath(id), chainName(id))
	if err := d.removeQuota(id); err != nil {
		return fmt.Errorf("remove layer %s: %w", id, err)
	}
	err = d.dropAll(volumes, unread)
	if mounted {
		err = errors.Join(err, d.releaseMounts())
	}
	d.sweepLater(err)
	return nil
}

// removeAll deletes a tree, and unmounts what is mounted in it.
func removeAll(path string) error {
	if err := system.EnsureRemoveAll(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
