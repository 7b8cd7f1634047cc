package driver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/archive"
	"github.com/containers/storage/pkg/chrootarchive"
	"github.com/containers/storage/pkg/directory"
	"github.com/containers/storage/pkg/idtools"

	"github.com/crio-erofs/crio-erofs/driver/erofs"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// ApplyDiff gives a layer its content: an uncompressed tar stream with AUFS whiteouts. A layer that Create made and
// nobody has written to becomes a volume layer. In any other layer the stream is unpacked, as overlay does it.
// It returns the sum of the sizes of the layer's files.
func (d *Driver) ApplyDiff(id, parent string, opts graphdriver.ApplyDiffOpts) (size int64, err error) {
	defer func() {
		if err != nil {
			abandon(opts.Diff, err)
		}
	}()
	l, err := d.readLayer(id)
	if err != nil {
		return 0, err
	}
	if l.Kind == kindVolume {
		return 0, fmt.Errorf("layer %s has its content already, in the read-only volume %s: apply the diff to a new layer",
			id, l.Volume)
	}
	if l.Parent != parent {
		return d.naive.ApplyDiff(id, parent, opts)
	}
	asVolume, err := d.canBecomeVolume(l, &opts)
	if err != nil {
		return 0, fmt.Errorf("layer %s: %w", id, err)
	}
	if !asVolume {
		return d.unpack(l, opts)
	}
	if size, err = d.convert(l, opts.Diff); err != nil {
		return 0, fmt.Errorf("convert layer %s to an EROFS volume: %w", id, err)
	}
	return size, nil
}

// abandon tells the writer of a stream, where it is a pipe, that nobody will read the rest. Otherwise the goroutine
// that containers/storage lets write into it would wait forever.
func abandon(diff io.Reader, cause error) {
	if pipe, ok := diff.(*io.PipeReader); ok {
		_ = pipe.CloseWithError(cause)
	}
}

// canBecomeVolume says whether the layer's content will be just that of the stream. A volume holds the ids of the
// stream unchanged, so a layer with id mappings stays a directory.
func (d *Driver) canBecomeVolume(l *layer, opts *graphdriver.ApplyDiffOpts) (bool, error) {
	if l.ReadWrite || opts.ForceMask != nil || (opts.Mappings != nil && !opts.Mappings.Empty()) {
		return false, nil
	}
	return d.untouched(l.ID)
}

// untouched says whether nobody has written to a directory layer, and nobody can while the store's lock is held.
func (d *Driver) untouched(id string) (bool, error) {
	if isMountPoint(d.mergedDir(id)) {
		return false, nil
	}
	return isEmpty(d.diffDir(id))
}

// unpack extracts the stream into a directory layer.
func (d *Driver) unpack(l *layer, opts graphdriver.ApplyDiffOpts) (int64, error) {
	mappings := opts.Mappings
	if mappings == nil {
		mappings = &idtools.IDMappings{}
	}
	err := chrootarchive.UntarUncompressed(opts.Diff, d.diffDir(l.ID), &archive.TarOptions{
		UIDMaps:           mappings.UIDs(),
		GIDMaps:           mappings.GIDs(),
		IgnoreChownErrors: opts.IgnoreChownErrors,
		ForceMask:         opts.ForceMask,
		WhiteoutFormat:    archive.OverlayWhiteoutFormat,
	})
	if err != nil {
		return 0, fmt.Errorf("unpack into layer %s: %w", l.ID, err)
	}
	return directory.Size(d.diffDir(l.ID))
}

// convert makes a volume of the stream and the layer a volume layer.
func (d *Driver) convert(l *layer, diff io.Reader) (size int64, err error) {
	d.freeing.wait() // the layer may need the space of what was just removed
	d.lock.Lock()
	t, err := d.newTmp()
	d.lock.Unlock()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, t.remove()) }()
	dir := filepath.Join(t.path, "volume")
	b := building{start: time.Now(), kind: layersBuilt, layer: l.ID, dir: dir}
	defer func() { d.count(&b, err) }()
	if err = os.Mkdir(dir, dirMode); err != nil {
		return 0, err
	}
	desc, stats, err := d.buildVolume(dir, diff)
	if err != nil {
		return 0, err
	}
	b.desc = desc
	root, err := d.examine(filepath.Join(dir, volumeFile))
	if err != nil {
		return 0, err
	}
	return stats.Bytes, d.makeVolumeLayer(dir, desc, l.ID, stats, root)
}

// buildVolume writes a layer's volume and what belongs to it to dir, and syncs it all.
func (d *Driver) buildVolume(dir string, diff io.Reader) (*volume.Description, *erofs.Stats, error) {
	stats := &erofs.Stats{}
	options := volume.BuildOptions{Layout: d.options.layout, NoVerity: !d.options.tree, Stats: stats}
	desc, err := writeVolume(dir, func(out *os.File) (*volume.Description, error) {
		return volume.Build(out, diff, options)
	})
	return desc, stats, err
}

// writeVolume makes a volume with what write writes, and what belongs to it, in dir, and syncs it all.
func writeVolume(dir string, write func(*os.File) (*volume.Description, error)) (_ *volume.Description, err error) {
	path := filepath.Join(dir, volumeFile)
	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	desc, err := write(out)
	if err != nil {
		return nil, err
	}
	if err := out.Chmod(0o444); err != nil {
		return nil, err
	}
	if err := out.Sync(); err != nil {
		return nil, err
	}
	if desc.Verity != nil {
		verityPath := filepath.Join(dir, volume.VerityFileName)
		if err := volume.WriteVerityFile(verityPath, desc.Verity); err != nil {
			return nil, err
		}
		if err := volume.SyncPath(verityPath); err != nil {
			return nil, err
		}
	}
	// Syncs the directory too.
	return desc, writeJSON(filepath.Join(dir, descriptionFile), desc, 0o444, durable)
}

// examine mounts a new volume, out of sight, and looks at its root directory. So no volume gets into the store that
// this kernel would not mount.
func (d *Driver) examine(path string) (*rootAttrs, error) {
	mnt, err := d.openVolumeFile(path)
	if err != nil {
		return nil, fmt.Errorf("examine the new volume: %w", err)
	}
	defer mnt.Close()
	root, err := statRoot(fdPath(mnt))
	return &root, err
}

// makeVolumeLayer publishes the volume in dir as the content of the layer.
func (d *Driver) makeVolumeLayer(dir string, desc *volume.Description, id string, stats *erofs.Stats,
	root *rootAttrs) error {
	d.lock.Lock()
	defer d.lock.Unlock()
	l, err := d.readLayer(id)
	if err != nil {
		return fmt.Errorf("the layer went away meanwhile: %w", err)
	}
	if l.Kind == kindVolume {
		if l.Volume == volumeName(desc) && l.DiffID == desc.DiffID {
			return nil // another process did the same at the same time
		}
		return fmt.Errorf("it got its content from another tar meanwhile, %s: volume %s", l.DiffID, l.Volume)
	}
	untouched, err := d.untouched(id)
	if err != nil {
		return err
	}
	if !untouched {
		return errors.New("it was mounted or written to meanwhile: remove the layer and apply the diff to a new one")
	}
	if !stats.Root {
		// The tar says nothing of the root directory: it stays as the layers below have it, as when it is unpacked.
		attrs, err := statRoot(d.diffDir(id))
		if err != nil {
			return err
		}
		root = &attrs
	}
	old := *l
	l.Kind, l.Volume, l.DiffID = kindVolume, volumeName(desc), desc.DiffID
	if desc.Verity != nil {
		l.RootHash = desc.Verity.RootHash
	}
	l.Size, l.Inodes, l.Root = stats.Bytes, stats.Inodes, root
	if err := d.publish(dir, desc, l, &old); err != nil {
		return err
	}
	d.verifySoon(l.Volume)
	// If they cannot be removed, they are merely in nobody's way. diff is empty, or os.Remove leaves it alone.
	_ = os.Remove(d.diffDir(id))
	_ = removeAll(d.workDir(id))
	return nil
}
