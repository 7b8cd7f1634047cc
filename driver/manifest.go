package driver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// writeManifest says, beside the mount point, which volumes a writable layer stands on, each once (see withoutCopies).
// For a read-only mount, which no container has, it removes an old manifest.
func (d *Driver) writeManifest(chain []*layer, writable bool) error {
	merged := d.mergedDir(chain[0].ID)
	path := volume.ManifestPath(merged)
	if !writable {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	m := &volume.Manifest{Version: volume.ManifestVersion, ID: chain[0].ID, MountPoint: merged}
	for i := len(chain) - 1; i > 0; i-- {
		l := chain[i]
		if l.Kind == kindVolume {
			desc, err := d.readDescription(l.Volume)
			if err != nil {
				return fmt.Errorf("layer %s: %w", l.ID, err)
			}
			v := volume.ManifestVolume{Description: *desc, Path: d.volumePath(l.Volume), LayerID: l.ID}
			v.DiffID = l.DiffID // the volume may have been made from the tar of another layer
			m.Volumes = append(m.Volumes, v)
			continue
		}
		empty, err := isEmpty(d.diffDir(l.ID))
		if err != nil {
			return fmt.Errorf("layer %s: %w", l.ID, err)
		}
		if !empty && m.Refusal == "" {
			m.Refusal = fmt.Sprintf("layer %s is a directory on the host and not a volume, because it was written in place "+
				"or has uid or gid mappings: push the image to a registry, remove it here and pull it without mappings", l.ID)
		}
	}
	if len(m.Volumes) == 0 && m.Refusal == "" {
		m.Refusal = "the container has no image layers: create it from an image"
	}
	// The mount does not survive a crash either, and the next Get writes the manifest anew.
	return writeJSON(path, m, 0o600, fleeting)
}
