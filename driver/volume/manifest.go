package volume

import "path/filepath"

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

// ManifestVolume is one volume of a container's rootfs.
type ManifestVolume struct {
	Description
	Path    string `json:"path"`     // absolute, its base name is FileName
	LayerID string `json:"layer_id"` // of containers/storage; of an image volume, the image's top layer
	FileID
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
	// equal to it. The DiffID of a union is empty.
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
