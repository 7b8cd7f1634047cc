package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/crio-erofs/crio-erofs/driver/safefile"
)

// ReadManifest reads and checks the manifest of the container mounted at mountPoint. It returns an error matching
// fs.ErrNotExist if there is none: then the rootfs is not one of this driver's.
func ReadManifest(mountPoint string) (*Manifest, error) {
	path := ManifestPath(mountPoint)
	f, fi, err := safefile.Open(path)
	if err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", mountPoint, err)
	}
	defer f.Close()
	if err := safefile.CheckOwner(fi); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", path, err)
	}
	b, err := safefile.ReadAtMost(f, maxManifestSize)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", path, err)
	}
	m, err := ParseManifest(b)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", path, err)
	}
	if m.MountPoint != filepath.Clean(mountPoint) {
		return nil, fmt.Errorf("manifest %s is of mount point %q, not of %q: the directory was moved or copied; "+
			"remove the container and create it anew", path, m.MountPoint, mountPoint)
	}
	return m, nil
}

// ParseManifest decodes and checks a manifest. Unknown fields are accepted, an unknown version is not.
func ParseManifest(b []byte) (*Manifest, error) {
	if len(b) > maxManifestSize {
		return nil, fmt.Errorf("larger than %d bytes", maxManifestSize)
	}
	m := &Manifest{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, err
	}
	if m.Version != ManifestVersion {
		return nil, fmt.Errorf("version %d is not supported, only %d: driver, hook and shim must be of one release",
			m.Version, ManifestVersion)
	}
	if m.ID == "" {
		return nil, errors.New("no id")
	}
	if !filepath.IsAbs(m.MountPoint) || filepath.Clean(m.MountPoint) != m.MountPoint {
		return nil, fmt.Errorf("mount_point %q is not a clean absolute path", m.MountPoint)
	}
	if m.Refusal == "" && len(m.Volumes) == 0 {
		return nil, errors.New("no volumes and no refusal")
	}
	for i := range m.Volumes {
		if err := m.Volumes[i].check(); err != nil {
			return nil, fmt.Errorf("volumes[%d]: %w", i, err)
		}
	}
	if err := m.checkOptional(); err != nil {
		return nil, err
	}
	return m, nil
}

// checkOptional checks what not every manifest has.
func (m *Manifest) checkOptional() error {
	if m.Image != nil {
		if err := m.Image.check(); err != nil {
			return fmt.Errorf("image: %w", err)
		}
		if len(m.Volumes) == 1 && m.Image.Path != m.Volumes[0].Path {
			return fmt.Errorf("image %s is not the only volume, %s", m.Image.Path, m.Volumes[0].Path)
		}
	}
	if m.RWLayer != nil {
		if err := m.RWLayer.check(); err != nil {
			return fmt.Errorf("rw_layer: %w", err)
		}
	}
	return nil
}

func checkPath(path, name string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || filepath.Base(path) != name {
		return fmt.Errorf("path %q is not a clean absolute path to a file named %s", path, name)
	}
	return nil
}

func (l *RWLayer) check() error {
	if err := checkPath(l.Path, RWLayerName); err != nil {
		return err
	}
	if l.FSType != "ext4" {
		return fmt.Errorf("fs_type %q; want ext4", l.FSType)
	}
	if l.Size <= 0 {
		return fmt.Errorf("size %d", l.Size)
	}
	return nil
}

func (v *ManifestVolume) check() error {
	if err := checkPath(v.Path, FileName); err != nil {
		return err
	}
	if v.Size <= 0 {
		return fmt.Errorf("size %d", v.Size)
	}
	if v.Verity == nil {
		return nil
	}
	return v.Verity.check(v.Size)
}
