package measure

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

const (
	// Version is the version of the Measurement's JSON that this package reads and writes.
	Version = 1

	// MaxSize bounds what is read of a measurement: 500 layers, which is overlayfs's limit, of under 1 KiB each fit.
	MaxSize = 1 << 20

	// maxText bounds names and reasons.
	maxText = 4096
)

// Measurement says which volumes an image becomes.
type Measurement struct {
	Version        int    `json:"version"`
	Image          string `json:"image,omitempty"`           // as it was named when it was measured
	ManifestDigest string `json:"manifest_digest,omitempty"` // "" if the transport does not keep the image's manifest
	ConfigDigest   string `json:"config_digest"`             // also the image's id in containers/storage and CRI-O
	Platform       string `json:"platform"`                  // os/architecture[/variant]

	// ManifestType and ManifestSize are, with ManifestDigest, what a referrer of the manifest has to say of it.
	ManifestType string `json:"manifest_media_type,omitempty"`
	ManifestSize int64  `json:"manifest_size,omitempty"`

	Layout        volume.Layout `json:"layout"`
	FormatVersion int           `json:"format_version"`

	// Layers has every layer of the image, lowest first.
	Layers []Layer `json:"layers"`

	// ImageVolume is the union of the layers as one volume.
	ImageVolume *Volume `json:"image_volume,omitempty"`

	// NoImageVolume says why there is no ImageVolume.
	NoImageVolume string `json:"no_image_volume,omitempty"`
}

// Volume is what a volume is, wherever it is made.
type Volume struct {
	Size   int64         `json:"size"` // of the whole file, in bytes
	Verity volume.Verity `json:"verity"`
}

// Layer is a layer of an image and its volume.
type Layer struct {
	Digest string `json:"digest"`  // of the layer's blob, as the manifest has it
	DiffID string `json:"diff_id"` // of the uncompressed tar; checked against the image's configuration

	// Copy is set if a higher layer has the same volume. A container gets each volume once, as the topmost.
	Copy bool `json:"copy,omitempty"`

	Volume
}

// Stack returns the layers that a container gets as volumes, lowest first: each volume once, as the topmost layer that
// has it (volume.Manifest has them by the same rule).
func (m *Measurement) Stack() []Layer {
	var stack []Layer
	for _, l := range m.Layers {
		if !l.Copy {
			stack = append(stack, l)
		}
	}
	return stack
}

// markCopies sets Copy on every layer.
func (m *Measurement) markCopies() {
	all := make([]*Layer, len(m.Layers))
	for i := range m.Layers {
		all[i] = &m.Layers[i]
		all[i].Copy = true
	}
	for _, l := range volume.Distinct(all, func(l *Layer) string { return l.Verity.RootHash }) {
		l.Copy = false
	}
}

// DiffIDs returns the diffIDs of all layers, lowest first.
func (m *Measurement) DiffIDs() []string {
	ids := make([]string, len(m.Layers))
	for i, l := range m.Layers {
		ids[i] = l.DiffID
	}
	return ids
}

// Parse decodes and checks a measurement. Unknown fields are accepted, an unknown version is not.
func Parse(b []byte) (*Measurement, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("measurement: larger than %d bytes", MaxSize)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	m := &Measurement{}
	if err := dec.Decode(m); err != nil {
		return nil, fmt.Errorf("measurement: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("measurement: more than one JSON value")
	}
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("measurement: %w", err)
	}
	return m, nil
}

// Check returns an error unless the measurement is one that Measure could have made.
func (m *Measurement) Check() error {
	if m.Version != Version {
		return fmt.Errorf("version %d is not supported, only %d: measure the image with this release of crio-erofs",
			m.Version, Version)
	}
	if err := m.checkManifest(); err != nil {
		return err
	}
	if err := m.checkText(); err != nil {
		return err
	}
	if err := checkDigest("config_digest", m.ConfigDigest); err != nil {
		return err
	}
	if strings.Count(m.Platform, "/") < 1 {
		return fmt.Errorf("platform %q is not os/architecture", m.Platform)
	}
	if _, err := volume.ParseLayout(string(m.Layout)); err != nil {
		return err
	}
	if m.FormatVersion < 1 {
		return fmt.Errorf("format_version %d", m.FormatVersion)
	}
	if err := m.checkLayers(); err != nil {
		return err
	}
	if (m.ImageVolume == nil) == (m.NoImageVolume == "") {
		return errors.New("one of image_volume and no_image_volume must be there")
	}
	if m.ImageVolume == nil {
		return nil
	}
	if err := m.ImageVolume.check(m); err != nil {
		return fmt.Errorf("image_volume: %w", err)
	}
	if stack := m.Stack(); len(stack) == 1 && *m.ImageVolume != stack[0].Volume {
		return errors.New("image_volume differs from the only volume of the layers")
	}
	return nil
}

func (m *Measurement) checkManifest() error {
	if m.ManifestSize < 0 || (m.ManifestSize == 0) != (m.ManifestType == "") {
		return fmt.Errorf("a manifest of type %q and %d bytes", m.ManifestType, m.ManifestSize)
	}
	if m.ManifestDigest == "" && m.ManifestSize == 0 {
		return nil
	}
	return checkDigest("manifest_digest", m.ManifestDigest)
}

// checkText keeps what a terminal would obey out of what is printed.
func (m *Measurement) checkText() error {
	for _, s := range []string{m.Image, m.ManifestType, m.Platform, m.NoImageVolume} {
		if len(s) > maxText || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return fmt.Errorf("text %.100q is longer than %d bytes or has control characters", s, maxText)
		}
	}
	return nil
}

func (m *Measurement) checkLayers() error {
	if len(m.Layers) == 0 {
		return errors.New("no layers")
	}
	marked := Measurement{Layers: append([]Layer(nil), m.Layers...)}
	marked.markCopies()
	for i := range m.Layers {
		l := &m.Layers[i]
		if err := l.check(m); err != nil {
			return fmt.Errorf("layers[%d]: %w", i, err)
		}
		if l.Copy != marked.Layers[i].Copy {
			return fmt.Errorf("layers[%d]: copy is %t, and the layers above say %t", i, l.Copy, marked.Layers[i].Copy)
		}
	}
	return nil
}

func (l *Layer) check(m *Measurement) error {
	if err := checkDigest("digest", l.Digest); err != nil {
		return err
	}
	if err := checkDigest("diff_id", l.DiffID); err != nil {
		return err
	}
	return l.Volume.check(m)
}

func (v *Volume) check(m *Measurement) error {
	if err := v.describe(m, "").Check(); err != nil {
		return err
	}
	if want := m.Layout.BlockSize(); v.Verity.DataBlockSize != uint32(want) {
		return fmt.Errorf("verity.data_block_size %d; layout %s has %d", v.Verity.DataBlockSize, m.Layout, want)
	}
	return nil
}

func (v *Volume) describe(m *Measurement, diffID string) *volume.Description {
	tree := v.Verity
	return &volume.Description{Layout: m.Layout, FormatVersion: m.FormatVersion, Size: v.Size, DiffID: diffID, Verity: &tree}
}

// checkDigest wants sha256, the only algorithm that containers/storage and Kata know.
func checkDigest(name, d string) error {
	s, ok := strings.CutPrefix(d, "sha256:")
	if b, err := hex.DecodeString(s); !ok || err != nil || len(b) != 32 || hex.EncodeToString(b) != s {
		return fmt.Errorf("%s %q is not sha256: and 64 lower-case hex digits", name, d)
	}
	return nil
}
