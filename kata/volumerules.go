package kata

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// fieldUse says whether a type of volume has a field.
type fieldUse int

const (
	unused fieldUse = iota
	optional
	required
)

// volumeRule says which fields of a VirtualVolume belong to a type. The table follows the comment and the validate
// function of KataVirtualVolume in kata-types/src/mount.rs; where a reader of Kata's is stricter, that counts.
type volumeRule struct {
	fsTypes      []string // allowed; nil: any, but one there must be; with "": may be missing
	options      fieldUse
	directVolume fieldUse
	imagePull    fieldUse
	nydusImage   fieldUse
	dmVerity     fieldUse
}

var volumeRules = map[VolumeType]volumeRule{
	VolumeDirectBlock:     {options: optional, directVolume: optional},
	VolumeImageRawBlock:   {options: optional, dmVerity: optional},
	VolumeLayerRawBlock:   {options: optional, dmVerity: optional},
	VolumeImageNydusBlock: {fsTypes: []string{fsTypeRAFSv6}, nydusImage: required, dmVerity: optional},
	VolumeLayerNydusBlock: {fsTypes: []string{fsTypeRAFSv6}, nydusImage: required, dmVerity: optional},
	VolumeImageNydusFS:    {fsTypes: []string{fsTypeRAFSv6, fsTypeRAFSv5}, nydusImage: required},
	VolumeLayerNydusFS:    {fsTypes: []string{fsTypeRAFSv6, fsTypeRAFSv5}, nydusImage: required},
	// CRI-O writes fs_type "overlay_fs"; nydus-snapshotter none, and labels as options (snapshot/mount_option.go).
	// The Go runtime crashes without image_pull.metadata (see NewGuestPullVolume).
	VolumeImageGuestPull: {fsTypes: []string{"", fsTypeGuestPull, "overlayfs", "overlay"}, options: optional,
		imagePull: required},
}

// Validate checks the volume by the rules of both Kata runtimes together: what a type needs has to be there, what it
// does not use must not. The error names the field.
func (v *VirtualVolume) Validate() error {
	rule, ok := volumeRules[v.VolumeType]
	if !ok {
		return fmt.Errorf("volume_type %q is unknown; valid are %q", v.VolumeType, volumeTypes)
	}
	if err := v.validateSource(); err != nil {
		return err
	}
	if err := v.validateFSType(rule.fsTypes); err != nil {
		return err
	}
	for _, f := range []struct {
		name    string
		present bool
		use     fieldUse
	}{
		{"options", len(v.Options) > 0, rule.options},
		{"direct_volume", v.DirectVolume != nil, rule.directVolume},
		{"image_pull", v.ImagePull != nil, rule.imagePull},
		{"nydus_image", v.NydusImage != nil, rule.nydusImage},
		{"dm_verity", v.DMVerity != nil, rule.dmVerity},
	} {
		if err := checkUse(f.name, f.present, f.use, "volume_type "+string(v.VolumeType)); err != nil {
			return err
		}
	}
	return v.validateParts()
}

func checkUse(field string, present bool, use fieldUse, of string) error {
	switch {
	case present && use == unused:
		return fmt.Errorf("%s does not belong to %s: leave it empty", field, of)
	case !present && use == required:
		return fmt.Errorf("%s is missing: %s needs it", field, of)
	}
	return nil
}

// validateSource wants a path where the source is a file or device, a reference where it is an image.
func (v *VirtualVolume) validateSource() error {
	if v.VolumeType != VolumeImageGuestPull {
		return checkPath("source", v.Source)
	}
	if v.Source == "" {
		return errors.New("source is empty; it has to be an image reference")
	}
	if len(v.Source) > maxPath {
		return fmt.Errorf("source has %d bytes; at most %d are accepted", len(v.Source), maxPath)
	}
	return checkText("source", v.Source)
}

func (v *VirtualVolume) validateFSType(allowed []string) error {
	if allowed == nil {
		if v.FSType == "" {
			return fmt.Errorf("fs_type is empty; a volume of type %s needs one", v.VolumeType)
		}
		if len(v.FSType) > maxFSType {
			return fmt.Errorf("fs_type has %d bytes; at most %d are accepted", len(v.FSType), maxFSType)
		}
		return checkText("fs_type", v.FSType)
	}
	if !slices.Contains(allowed, v.FSType) {
		return fmt.Errorf("fs_type %q does not belong to volume_type %s; valid are %q", v.FSType, v.VolumeType, allowed)
	}
	return nil
}

// validateParts follows IsValid of Kata's Go runtime (an object that is there has to be filled) and validate of
// runtime-rs, which wants both fields of nydus_image.
func (v *VirtualVolume) validateParts() error {
	for i, o := range v.Options {
		if err := checkText(fmt.Sprintf("options[%d]", i), o); err != nil {
			return err
		}
	}
	if err := v.DirectVolume.validate("direct_volume"); err != nil {
		return err
	}
	if err := v.ImagePull.validate("image_pull"); err != nil {
		return err
	}
	if err := v.NydusImage.validate(); err != nil {
		return err
	}
	if v.DMVerity == nil {
		return nil
	}
	if err := v.DMVerity.Validate(); err != nil {
		return fmt.Errorf("dm_verity.%w", err)
	}
	return nil
}

func (m *Metadata) validate(field string) error {
	if m == nil {
		return nil
	}
	if m.Metadata == nil {
		return fmt.Errorf("%s.metadata is missing", field)
	}
	// They are labels and annotations of others, who may well have U+FFFD in them.
	for key, value := range m.Metadata {
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return fmt.Errorf("%s.metadata.%q is not UTF-8", field, key)
		}
	}
	return nil
}

func (n *NydusImage) validate() error {
	if n == nil {
		return nil
	}
	if strings.TrimSpace(n.Config) == "" {
		return errors.New("nydus_image.config is empty; it has to be nydusd's configuration")
	}
	if err := checkUTF8("nydus_image.config", n.Config); err != nil {
		return err
	}
	return checkPath("nydus_image.snapshot_dir", n.SnapshotDir)
}
