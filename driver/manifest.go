package driver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// describe says, as a manifest does, what a container's layer, the chain's first, stands on. It leaves out the image
// volume.
func (d *Driver) describe(chain []*layer) (*volume.Manifest, error) {
	m := &volume.Manifest{Version: volume.ManifestVersion, ID: chain[0].ID, MountPoint: d.mergedDir(chain[0].ID)}
	var layers []*layer
	for _, l := range slices.Backward(chain[1:]) {
		if l.Kind == kindVolume {
			layers = append(layers, l)
			m.DiffIDs = append(m.DiffIDs, l.DiffID)
			continue
		}
		empty, err := isEmpty(d.storeOf(l).diffDir(l.ID))
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.ID, err)
		}
		if !empty && m.Refusal == "" {
			m.Refusal = fmt.Sprintf("layer %s is a directory on the host and not a volume, because it was written in place "+
				"or has uid or gid mappings: push the image to a registry, remove it here and pull it without mappings", l.ID)
		}
	}
	for _, l := range volume.Distinct(layers, func(l *layer) string { return l.Volume }) {
		v, err := d.describeIn(d.storeOf(l), l.Volume)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.ID, err)
		}
		v.LayerID, v.DiffID = l.ID, l.DiffID // the volume may have been made from the tar of another layer
		m.Volumes = append(m.Volumes, *v)
	}
	switch {
	case m.Refusal != "":
		m.DiffIDs = nil // nobody knows those of directories
	case len(m.Volumes) == 0:
		m.Refusal = "the container has no image layers: create it from an image"
	}
	return m, nil
}

// describeVolume returns what manifests say of a volume. A file that is not as large as it must be is an error.
func (d *Driver) describeVolume(name string) (*volume.ManifestVolume, error) {
	return d.describeIn(d.homeOf(name), name)
}

func (d *Driver) describeIn(s store, name string) (*volume.ManifestVolume, error) {
	path := s.volumePath(name)
	file, err := stampOf(path)
	if err != nil {
		return nil, fmt.Errorf("%w: remove the images that use the volume and pull them again", err)
	}
	if known, ok := d.records.recall(path, file); ok {
		v := known.(volume.ManifestVolume)
		return &v, nil
	}
	desc, err := s.readDescription(name)
	if err != nil {
		return nil, err
	}
	if file.size != desc.Size {
		return nil, damaged(path, file.size, desc.Size)
	}
	v := volume.ManifestVolume{Description: *desc, Path: path, FileID: volume.FileID{Device: file.dev, Inode: file.ino}}
	d.records.remember(path, file, v)
	return &v, nil
}

func damaged(path string, size, want int64) error {
	return fmt.Errorf("volume %s has %d bytes instead of %d: it is damaged; remove the images that use it and pull them "+
		"again", path, size, want)
}

// nameOf returns the name of the volume that is described in a manifest.
func nameOf(v *volume.ManifestVolume) string { return filepath.Base(filepath.Dir(v.Path)) }

// writeManifest puts a manifest beside its mount point.
func writeManifest(m *volume.Manifest) error {
	// The mount does not survive a crash either, and the next Get writes the manifest anew.
	return writeJSON(volume.ManifestPath(m.MountPoint), m, 0o600, fleeting)
}

// removeManifest removes the manifest of an earlier mount: a read-only one, which no container has, gets none.
func removeManifest(mountPoint string) error {
	if err := os.Remove(volume.ManifestPath(mountPoint)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
