package expected

import (
	"errors"
	"fmt"
	"slices"

	"github.com/crio-erofs/crio-erofs/driver/measure"
)

// ErrBlockSize says that Kata's agent cannot verify the image's volumes: it takes data blocks of 4096 bytes for granted
// (kata-containers src/agent/src/storage/multi_layer_erofs.rs, and runtime-rs sends no size).
var ErrBlockSize = errors.New("the agent of Kata verifies data blocks of 4096 bytes only; measure with --layout aligned")

// StorageOptions are the options of the storages that Kata's agent is asked to mount for a rootfs, by partition number:
// the topmost volume is the first (gpt_disk.rs, generate_dmverity_options; erofs_rootfs.rs).
func (r *Rootfs) StorageOptions() ([][]string, error) {
	var all [][]string
	for i, v := range slices.Backward(r.Volumes) {
		if v.Verity.DataBlockSize != 4096 {
			return nil, ErrBlockSize
		}
		all = append(all, storageOptions(len(r.Volumes)-i, &v))
	}
	return all, nil
}

func storageOptions(partition int, v *measure.Volume) []string {
	return []string{
		"X-kata.overlay-lower",
		"X-kata.multi-layer=true",
		"X-kata.gpt-partitioned=true",
		fmt.Sprintf("X-kata.partition-number=%d", partition),
		"X-kata.dmverity-enabled=true",
		"X-kata.dmverity.roothash=" + v.Verity.RootHash,
		fmt.Sprintf("X-kata.dmverity.hashoffset=%d", v.Verity.HashOffset),
		"X-kata.dmverity.no-superblock=false",
		"X-kata.dmverity.salt=" + v.Verity.Salt,
	}
}

// Storages are the expected options of an image's storages, for one mode.
type Storages struct {
	Mode    string     `json:"mode"`
	Options [][]string `json:"options"` // by partition number
}

// ImageStorages are the expected options of an image's storages.
type ImageStorages struct {
	Image        string     `json:"image,omitempty"`
	ConfigDigest string     `json:"config_digest"`
	Rootfs       []Storages `json:"rootfs"` // one of them, whole
}

// NewImageStorages returns the expected options of an image's storages in all modes.
func NewImageStorages(m *measure.Measurement) (*ImageStorages, error) {
	s := &ImageStorages{Image: m.Image, ConfigDigest: m.ConfigDigest}
	for _, r := range Rootfses(m) {
		options, err := r.StorageOptions()
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", m.Image, err)
		}
		s.Rootfs = append(s.Rootfs, Storages{Mode: string(r.Mode), Options: options})
	}
	return s, nil
}
