package kata

import (
	"fmt"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// VolumeType says how the other fields of a VirtualVolume are to be read.
type VolumeType string

// The volume types of Kata (src/runtime/virtcontainers/types/virtual_volume.go, src/libs/kata-types/src/mount.rs).
const (
	VolumeDirectBlock     VolumeType = "direct_block"
	VolumeImageRawBlock   VolumeType = "image_raw_block"
	VolumeLayerRawBlock   VolumeType = "layer_raw_block"
	VolumeImageNydusBlock VolumeType = "image_nydus_block"
	VolumeLayerNydusBlock VolumeType = "layer_nydus_block"
	VolumeImageNydusFS    VolumeType = "image_nydus_fs"
	VolumeLayerNydusFS    VolumeType = "layer_nydus_fs"
	VolumeImageGuestPull  VolumeType = "image_guest_pull"
)

const (
	// FSTypeErofs is the file system in every volume of this project.
	FSTypeErofs = "erofs"

	// fsTypeGuestPull is what CRI-O writes for an image that the guest pulls.
	fsTypeGuestPull = "overlay_fs"

	// The RAFS versions that runtime-rs takes (kata-types/src/mount.rs, KataVirtualVolume::validate).
	fsTypeRAFSv5 = "rafsv5"
	fsTypeRAFSv6 = "rafsv6"

	optionReadOnly = "ro"
)

// volumeTypes has every volume type, for decoders and their messages.
var volumeTypes = []VolumeType{VolumeDirectBlock, VolumeImageRawBlock, VolumeLayerRawBlock, VolumeImageNydusBlock,
	VolumeLayerNydusBlock, VolumeImageNydusFS, VolumeLayerNydusFS, VolumeImageGuestPull}

// VirtualVolume is Kata's KataVirtualVolume. Field names and order are Kata's.
type VirtualVolume struct {
	VolumeType   VolumeType  `json:"volume_type"`
	Source       string      `json:"source,omitempty"`
	FSType       string      `json:"fs_type,omitempty"`
	Options      []string    `json:"options,omitempty"`
	DirectVolume *Metadata   `json:"direct_volume,omitempty"`
	ImagePull    *Metadata   `json:"image_pull,omitempty"`
	NydusImage   *NydusImage `json:"nydus_image,omitempty"`
	DMVerity     *DMVerity   `json:"dm_verity,omitempty"`
}

// Metadata belongs to a VirtualVolume of type VolumeDirectBlock or VolumeImageGuestPull.
type Metadata struct {
	Metadata map[string]string `json:"metadata"`
}

// NydusImage belongs to a VirtualVolume of one of the nydus types.
type NydusImage struct {
	Config      string `json:"config"`
	SnapshotDir string `json:"snapshot_dir"`
}

// NewLayerVolume describes a layer's volume of a manifest as a VirtualVolume.
func NewLayerVolume(v *volume.ManifestVolume) *VirtualVolume {
	return newBlockVolume(VolumeLayerRawBlock, v)
}

// NewImageVolume describes the volume of a whole image as a VirtualVolume.
func NewImageVolume(v *volume.ManifestVolume) *VirtualVolume {
	return newBlockVolume(VolumeImageRawBlock, v)
}

func newBlockVolume(t VolumeType, v *volume.ManifestVolume) *VirtualVolume {
	return &VirtualVolume{
		VolumeType: t,
		Source:     v.Path,
		FSType:     FSTypeErofs,
		Options:    []string{optionReadOnly},
		DMVerity:   NewDMVerity(v.Verity),
	}
}

// NewGuestPullVolume describes an image that the guest pulls, as CRI-O 1.34 does (addVolumeMountsToCreateRequest in
// internal/oci/runtime_vm.go): metadata are the container's annotations. Kata's Go runtime writes into them without
// looking (handleImageGuestPullBlockVolume in virtcontainers/kata_agent.go), so they are never left out.
func NewGuestPullVolume(image string, metadata map[string]string) *VirtualVolume {
	if metadata == nil {
		metadata = map[string]string{}
	}
	return &VirtualVolume{
		VolumeType: VolumeImageGuestPull,
		Source:     image,
		FSType:     fsTypeGuestPull,
		ImagePull:  &Metadata{Metadata: metadata},
	}
}

// Encode returns the volume as the value of an annotation or mount option: base64 of its JSON.
func (v *VirtualVolume) Encode() (string, error) {
	c := *v
	if v.DMVerity != nil {
		d := *v.DMVerity
		d.fillSalt()
		c.DMVerity = &d
	}
	if err := c.Validate(); err != nil {
		return "", fmt.Errorf("encode KataVirtualVolume: %w", err)
	}
	s, err := encode(&c)
	if err != nil {
		return "", fmt.Errorf("encode KataVirtualVolume: %w", err)
	}
	return s, nil
}

// DecodeVirtualVolume is the inverse of Encode. Of dm_verity, hash_type and no_superblock may be missing, as
// nydus-snapshotter leaves them out; they then get the values that it means, 1 and true.
func DecodeVirtualVolume(s string) (*VirtualVolume, error) {
	v := &VirtualVolume{}
	present, err := decode(s, v)
	if err != nil {
		return nil, fmt.Errorf("decode KataVirtualVolume: %w", err)
	}
	if v.DMVerity != nil {
		v.DMVerity.fillMissing(func(field string) bool { return present["dm_verity."+field] })
	}
	if err := v.Validate(); err != nil {
		return nil, fmt.Errorf("decode KataVirtualVolume: %w", err)
	}
	return v, nil
}
