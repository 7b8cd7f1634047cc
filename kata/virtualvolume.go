package kata

import (
	"errors"
	"fmt"
	"slices"

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

// NewLayerVolume describes a volume of a manifest as a VirtualVolume.
func NewLayerVolume(v *volume.ManifestVolume) *VirtualVolume {
	return &VirtualVolume{
		VolumeType: VolumeLayerRawBlock,
		Source:     v.Path,
		FSType:     FSTypeErofs,
		Options:    []string{optionReadOnly},
		DMVerity:   NewDMVerity(v.Verity),
	}
}

// Validate checks the volume by the rules of both Kata runtimes together; the error names the field.
func (v *VirtualVolume) Validate() error {
	if !slices.Contains(volumeTypes, v.VolumeType) {
		return fmt.Errorf("volume_type %q is unknown; valid are %q", v.VolumeType, volumeTypes)
	}
	if err := v.validateSource(); err != nil {
		return err
	}
	if err := v.validateParts(); err != nil {
		return err
	}
	if v.DMVerity != nil {
		if err := v.DMVerity.Validate(); err != nil {
			return fmt.Errorf("dm_verity.%w", err)
		}
	}
	return nil
}

// validateSource follows KataVirtualVolume::validate of kata-types/src/mount.rs: every type has a source, every type
// but guest pull a file system. A source that is a file has to be a clean absolute path on top of that.
func (v *VirtualVolume) validateSource() error {
	if v.VolumeType == VolumeImageGuestPull {
		if v.Source == "" {
			return errors.New("source is empty; it has to be an image reference")
		}
		return checkText("source", v.Source)
	}
	if err := checkPath("source", v.Source); err != nil {
		return err
	}
	if v.FSType == "" {
		return fmt.Errorf("fs_type is empty; a volume of type %s needs one", v.VolumeType)
	}
	return checkText("fs_type", v.FSType)
}

// validateParts follows IsValid of Kata's Go runtime: an object that is there has to be filled.
func (v *VirtualVolume) validateParts() error {
	for i, o := range v.Options {
		if err := checkText(fmt.Sprintf("options[%d]", i), o); err != nil {
			return err
		}
	}
	if v.DirectVolume != nil && v.DirectVolume.Metadata == nil {
		return errors.New("direct_volume.metadata is missing")
	}
	if v.ImagePull != nil && v.ImagePull.Metadata == nil {
		return errors.New("image_pull.metadata is missing")
	}
	if v.NydusImage != nil && v.NydusImage.Config == "" && v.NydusImage.SnapshotDir == "" {
		return errors.New("nydus_image has neither config nor snapshot_dir")
	}
	return nil
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
