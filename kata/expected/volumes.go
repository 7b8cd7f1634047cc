package expected

import (
	"bytes"
	"fmt"
	"path/filepath"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
)

// volumeNameLen is how much of the root hash names a volume's directory in a node's store (docs/architecture.md).
const volumeNameLen = 24

// Rootfs is one way in which a container gets its image.
type Rootfs struct {
	Mode    kata.Mode
	Volumes []measure.Volume // lowest first
}

// Rootfses returns the ways in which a container can get the image verified: as the volumes of its layers, and as one
// volume if there is one.
func Rootfses(m *measure.Measurement) []Rootfs {
	layers := Rootfs{Mode: kata.ModeLayerVerity}
	for _, l := range m.Stack() {
		layers.Volumes = append(layers.Volumes, l.Volume)
	}
	if m.ImageVolume == nil {
		return []Rootfs{layers}
	}
	image := Rootfs{Mode: kata.ModeImageVerity, Volumes: []measure.Volume{*m.ImageVolume}}
	return []Rootfs{layers, image}
}

// distinct returns every volume that a container of the image can get, once: those of the layers, lowest first, and the
// image's.
func distinct(m *measure.Measurement) (volumes []measure.Volume) {
	seen := map[string]bool{}
	for _, r := range Rootfses(m) {
		for _, v := range r.Volumes {
			if !seen[v.Verity.RootHash] {
				volumes = append(volumes, v)
			}
			seen[v.Verity.RootHash] = true
		}
	}
	return volumes
}

// VerityFiles returns the content of the volumes' files volume.VerityFileName, a line for each volume.
func VerityFiles(m *measure.Measurement) ([]byte, error) {
	var out bytes.Buffer
	for _, v := range distinct(m) {
		b, err := volume.VerityFile(&v.Verity)
		if err != nil {
			return nil, err
		}
		out.Write(b)
	}
	return out.Bytes(), nil
}

// VeritysetupLines returns what to give "veritysetup verify FILE FILE" and "veritysetup open FILE NAME FILE", a line for
// each volume.
func VeritysetupLines(m *measure.Measurement) []byte {
	var out bytes.Buffer
	for _, v := range distinct(m) {
		fmt.Fprintln(&out, kata.NewDMVerity(&v.Verity).Parameters())
	}
	return out.Bytes()
}

// VirtualVolume is a KataVirtualVolume as a node's hook puts it on a container, and the annotation that it does so by.
type VirtualVolume struct {
	Mode       kata.Mode           `json:"mode"`
	Key        string              `json:"key"`
	Annotation string              `json:"annotation"`
	Volume     *kata.VirtualVolume `json:"volume"`
}

// VirtualVolumes returns the KataVirtualVolumes of all modes for a node whose storage root is graphRoot.
func VirtualVolumes(m *measure.Measurement, graphRoot string) (all []VirtualVolume, err error) {
	for _, r := range Rootfses(m) {
		for i := range r.Volumes {
			v := VirtualVolume{Mode: r.Mode, Key: kata.VolumeKey(i)}
			mv := manifestVolume(m, &r.Volumes[i], graphRoot)
			v.Volume = kata.NewLayerVolume(mv)
			if r.Mode == kata.ModeImageVerity {
				v.Volume = kata.NewImageVolume(mv)
			}
			if v.Annotation, err = v.Volume.Encode(); err != nil {
				return nil, err
			}
			all = append(all, v)
		}
	}
	return all, nil
}

func manifestVolume(m *measure.Measurement, v *measure.Volume, graphRoot string) *volume.ManifestVolume {
	return &volume.ManifestVolume{
		Description: volume.Description{Layout: m.Layout, FormatVersion: m.FormatVersion, Size: v.Size, Verity: &v.Verity},
		Path:        filepath.Join(graphRoot, "erofs", "volumes", v.Verity.RootHash[:volumeNameLen], volume.FileName),
	}
}
