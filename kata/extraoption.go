package kata

import (
	"fmt"
	"slices"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// OptionType says how the other fields of an ExtraOption are to be read.
type OptionType string

// The types of the RFC "Image management proposal for hosting sharing and peer pods"
// (confidential-containers/confidential-containers#137).
const (
	OptionNydusImageFS     OptionType = "nydus-image-fs"
	OptionNydusImageFSOld  OptionType = "" // what nydus-snapshotter writes, which knows no type
	OptionNydusImageBlock  OptionType = "nydus-image-block"
	OptionNydusLayerBlock  OptionType = "nydus-layer-block"
	OptionRawImageBlock    OptionType = "raw-image-block"
	OptionRawLayerBlock    OptionType = "raw-layer-block"
	OptionRuntimeAgentPull OptionType = "runtime-agent-pull"
)

// optionTypes has every option type, for decoders and their messages.
var optionTypes = []OptionType{OptionNydusImageFS, OptionNydusImageFSOld, OptionNydusImageBlock,
	OptionNydusLayerBlock, OptionRawImageBlock, OptionRawLayerBlock, OptionRuntimeAgentPull}

// ExtraOption is the RFC's description of a volume. Field names and order are the RFC's; all fields are always
// written.
type ExtraOption struct {
	Type OptionType `json:"type"`

	// Source is the path of the volume.
	Source string `json:"source"`

	// Config and Snapshotdir are unused, hence empty, in the raw types.
	Config      string `json:"config"`
	Snapshotdir string `json:"snapshotdir"`

	// Version is the RAFS version of the nydus types. The RFC leaves it unused in the raw types and has no other
	// field for the file system, so this project writes "erofs".
	Version string `json:"fs_version"`

	// Verity has dm-verity's parameters, as Parameters of DMVerity writes them; empty without dm-verity.
	Verity string `json:"verity"`
}

// NewLayerOption describes a volume of a manifest as an ExtraOption.
func NewLayerOption(v *volume.ManifestVolume) *ExtraOption {
	o := &ExtraOption{Type: OptionRawLayerBlock, Source: v.Path, Version: FSTypeErofs}
	if d := NewDMVerity(v.Verity); d != nil {
		o.Verity = d.Parameters()
	}
	return o
}

// raw says whether the option is of a raw block type.
func (o *ExtraOption) raw() bool {
	return o.Type == OptionRawImageBlock || o.Type == OptionRawLayerBlock
}

// Validate checks the option by the RFC's table of which type uses which field; the error names the field.
func (o *ExtraOption) Validate() error {
	if !slices.Contains(optionTypes, o.Type) {
		return fmt.Errorf("type %q is unknown; valid are %q", o.Type, optionTypes)
	}
	if o.Type != OptionRuntimeAgentPull {
		if err := checkPath("source", o.Source); err != nil {
			return err
		}
	}
	if o.raw() {
		return o.validateRaw()
	}
	// A configuration of nydusd may well have line ends.
	for _, f := range [][2]string{{"config", o.Config}, {"snapshotdir", o.Snapshotdir}, {"fs_version", o.Version},
		{"verity", o.Verity}} {
		if err := checkUTF8(f[0], f[1]); err != nil {
			return err
		}
	}
	return nil
}

func (o *ExtraOption) validateRaw() error {
	if o.Config != "" {
		return fmt.Errorf("config is not empty, but type %s does not use it", o.Type)
	}
	if o.Snapshotdir != "" {
		return fmt.Errorf("snapshotdir is not empty, but type %s does not use it", o.Type)
	}
	if o.Version != "" && o.Version != FSTypeErofs {
		return fmt.Errorf("fs_version %q is not %q, the file system of a volume", o.Version, FSTypeErofs)
	}
	if o.Verity == "" {
		return nil
	}
	if _, err := ParseParameters(o.Verity); err != nil {
		return fmt.Errorf("verity: %w", err)
	}
	return nil
}

// Encode returns the option as the value of an annotation: base64 of its JSON.
func (o *ExtraOption) Encode() (string, error) {
	if err := o.Validate(); err != nil {
		return "", fmt.Errorf("encode ExtraOption: %w", err)
	}
	s, err := encode(o)
	if err != nil {
		return "", fmt.Errorf("encode ExtraOption: %w", err)
	}
	return s, nil
}

// DecodeExtraOption is the inverse of Encode.
func DecodeExtraOption(s string) (*ExtraOption, error) {
	o := &ExtraOption{}
	if _, err := decode(s, o); err != nil {
		return nil, fmt.Errorf("decode ExtraOption: %w", err)
	}
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("decode ExtraOption: %w", err)
	}
	return o, nil
}
