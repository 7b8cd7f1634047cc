package kata

import (
	"fmt"

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

// NewLayerOption describes a layer's volume of a manifest as an ExtraOption.
func NewLayerOption(v *volume.ManifestVolume) *ExtraOption {
	return newBlockOption(OptionRawLayerBlock, v)
}

// NewImageOption describes the volume of a whole image as an ExtraOption.
func NewImageOption(v *volume.ManifestVolume) *ExtraOption {
	return newBlockOption(OptionRawImageBlock, v)
}

func newBlockOption(t OptionType, v *volume.ManifestVolume) *ExtraOption {
	o := &ExtraOption{Type: t, Source: v.Path, Version: FSTypeErofs}
	if d := NewDMVerity(v.Verity); d != nil {
		o.Verity = d.Parameters()
	}
	return o
}

// NewPullOption describes an image that the guest pulls: the RFC wants the image's labels, all of them, in Config and
// nothing else. They are written as a JSON object, whose keys are sorted.
func NewPullOption(labels map[string]string) (*ExtraOption, error) {
	if labels == nil {
		labels = map[string]string{}
	}
	b, err := marshal(labels)
	if err != nil {
		return nil, err
	}
	return &ExtraOption{Type: OptionRuntimeAgentPull, Config: string(b)}, nil
}

// Labels returns the labels in the Config of an option of type OptionRuntimeAgentPull.
func (o *ExtraOption) Labels() (map[string]string, error) {
	labels := map[string]string{}
	if _, err := unmarshal([]byte(o.Config), &labels); err != nil {
		return nil, fmt.Errorf("config is not a JSON object of labels: %w", err)
	}
	return labels, nil
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
