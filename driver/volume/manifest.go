package volume

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

const (
	// ManifestVersion is the version of the manifest's JSON that this package reads and writes.
	ManifestVersion = 1

	// ManifestName is the manifest's file name, in the directory that also holds the container's mount point.
	ManifestName = "manifest.json"

	// FileName is the name of every volume file. Kata's Go runtime insists on it.
	FileName = "layer.erofs"

	// VerityFileName is the file beside a volume that tells Kata's runtime-rs the volume's root hash
	// (key "X-containerd.dmverity" of a mount, see VerityFile).
	VerityFileName = FileName + ".dmverity"

	// maxManifestSize bounds what is read of a manifest: 500 layers (overlayfs's limit) of under 1 KiB each fit.
	maxManifestSize = 1 << 20
)

// Verity holds everything that is needed to open a volume with dm-verity. All offsets and sizes are in bytes unless
// the name says blocks.
type Verity struct {
	RootHash      string `json:"root_hash"`       // lower-case hex
	Algorithm     string `json:"algorithm"`       // "sha256"
	HashType      int    `json:"hash_type"`       // 1, dm-verity's "version" field
	Salt          string `json:"salt"`            // hex; empty: no salt
	DataBlockSize uint32 `json:"data_block_size"` // 4096, or 512 for tarfs
	HashBlockSize uint32 `json:"hash_block_size"` // 4096
	DataBlocks    uint64 `json:"data_blocks"`
	HashOffset    uint64 `json:"hash_offset"` // of the superblock; equals DataBlocks*DataBlockSize
	TreeOffset    uint64 `json:"tree_offset"` // of the tree's first (top) block, behind the superblock
}

// Description says what a volume file holds. It is stored beside the volume and copied into manifests.
type Description struct {
	Layout        Layout  `json:"layout"`
	FormatVersion int     `json:"format_version"` // see erofs.FormatVersion: equal tar and version give equal bytes
	Size          int64   `json:"size"`           // of the whole file: data, superblock, tree
	DiffID        string  `json:"diff_id"`        // "sha256:<hex>" of the uncompressed tar that it was made from
	Verity        *Verity `json:"verity,omitempty"`
}

// ManifestVolume is one volume of a container's rootfs.
type ManifestVolume struct {
	Description
	Path    string `json:"path"`     // absolute, its base name is FileName
	LayerID string `json:"layer_id"` // of containers/storage; of an image volume, the image's top layer
	FileID
}

// FileID tells one file from another that was put in its place.
type FileID struct {
	Device uint64 `json:"device"` // st_dev
	Inode  uint64 `json:"inode"`  // st_ino
}

// RWLayerName is the name of every RWLayer's file. Kata's Go runtime insists on it.
const RWLayerName = "rwlayer.img"

// RWLayer is a file system image for what a container in a VM writes. It comes from the host and is not verified: it
// could hide any file of the image, so it must not be used where verity is promised.
type RWLayer struct {
	Path   string `json:"path"`    // absolute, its base name is RWLayerName
	FSType string `json:"fs_type"` // "ext4"
	Size   int64  `json:"size"`    // in bytes; the file is sparse
	FileID
}

// Manifest describes the rootfs of one container as volumes. The driver writes it beside the container's mount point;
// hooks and shim read it and nothing else of the store.
type Manifest struct {
	Version    int    `json:"version"`
	ID         string `json:"id"`          // of the container's read-write layer
	MountPoint string `json:"mount_point"` // absolute; root.path of the container's OCI configuration

	// Volumes has the lowest layer first, and each volume once, as the topmost layer that has it: a copy further down
	// shows nothing that the topmost one does not.
	Volumes []ManifestVolume `json:"volumes"`

	// Image is the union of Volumes as one volume. If Volumes has one entry only, that is the image, too, and Image is
	// equal to it.
	Image *ManifestVolume `json:"image,omitempty"`

	// NoImage says why Image is missing, for example because the file system cannot share blocks between files.
	NoImage string `json:"no_image,omitempty"`

	// DiffIDs has the diffID of every layer of the image, lowest first, as the image's configuration lists them: also
	// of those whose volume another layer has, too.
	DiffIDs []string `json:"diff_ids,omitempty"`

	// RWLayer is where a VM keeps what the container writes; nil: in the guest's memory.
	RWLayer *RWLayer `json:"rw_layer,omitempty"`

	// Refusal says why this rootfs cannot be given to a VM as volumes, for example because a parent layer is a
	// plain directory. Empty if it can.
	Refusal string `json:"refusal,omitempty"`
}

// ManifestPath returns where the manifest of the container mounted at mountPoint is.
func ManifestPath(mountPoint string) string {
	return filepath.Join(filepath.Dir(filepath.Clean(mountPoint)), ManifestName)
}

// ReadManifest reads and checks the manifest of the container mounted at mountPoint. It returns an error matching
// fs.ErrNotExist if there is none: then the rootfs is not one of this driver's.
func ReadManifest(mountPoint string) (*Manifest, error) {
	path := ManifestPath(mountPoint)
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", mountPoint, err)
	}
	defer f.Close()
	if err := checkOwner(f); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", path, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxManifestSize+1))
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

// checkOwner makes sure that nobody but the store's owner could have written the manifest.
func checkOwner(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	if fi.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("mode %v lets others than the owner write it", fi.Mode().Perm())
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("owned by uid %d, not by uid %d that runs this program", st.Uid, os.Geteuid())
	}
	return nil
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
	if m.Image != nil {
		if err := m.Image.check(); err != nil {
			return nil, fmt.Errorf("image: %w", err)
		}
	}
	if m.RWLayer != nil {
		if err := m.RWLayer.check(); err != nil {
			return nil, fmt.Errorf("rw_layer: %w", err)
		}
	}
	return m, nil
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

func (v *Verity) check(size int64) error {
	if h, err := hex.DecodeString(v.RootHash); err != nil || len(h) != 32 || hex.EncodeToString(h) != v.RootHash {
		return fmt.Errorf("verity.root_hash %q is not 64 lower-case hex digits", v.RootHash)
	}
	if v.Algorithm != "sha256" || v.HashType != 1 || v.HashBlockSize != 4096 {
		return fmt.Errorf("verity of algorithm %q, hash_type %d, hash_block_size %d; want sha256, 1, 4096",
			v.Algorithm, v.HashType, v.HashBlockSize)
	}
	if v.Salt != "" {
		return fmt.Errorf("verity.salt %q; volumes have no salt", v.Salt)
	}
	if v.DataBlockSize != 4096 && v.DataBlockSize != 512 {
		return fmt.Errorf("verity.data_block_size %d; want 4096 or 512", v.DataBlockSize)
	}
	end := uint64(size)
	if v.DataBlocks == 0 || v.DataBlocks > end/uint64(v.DataBlockSize) ||
		v.HashOffset < v.DataBlocks*uint64(v.DataBlockSize) || v.HashOffset%uint64(v.HashBlockSize) != 0 ||
		v.TreeOffset <= v.HashOffset || v.TreeOffset >= end || v.TreeOffset%uint64(v.HashBlockSize) != 0 {
		return fmt.Errorf("verity of %d data blocks, hash_offset %d, tree_offset %d does not fit a file of %d bytes",
			v.DataBlocks, v.HashOffset, v.TreeOffset, size)
	}
	return nil
}
