package rootfs

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/api/types"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// optVolume is the mount option with a KataVirtualVolume (kata-types/src/mount.rs, KATA_VIRTUAL_VOLUME_PREFIX).
const optVolume = "io.katacontainers.volume="

// virtualVolume is what is read of a KataVirtualVolume; dm_verity is handed on to the guest as it is.
type virtualVolume struct {
	VolumeType string          `json:"volume_type"`
	Source     string          `json:"source"`
	FSType     string          `json:"fs_type"`
	Options    []string        `json:"options"`
	DMVerity   json.RawMessage `json:"dm_verity"`
}

// virtualVolumes returns the volumes in a mount's options, in their order.
func virtualVolumes(m *types.Mount) ([]virtualVolume, error) {
	var volumes []virtualVolume
	for _, o := range m.Options {
		value, ok := strings.CutPrefix(o, optVolume)
		if !ok {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return nil, fmt.Errorf("KataVirtualVolume: %w", err)
		}
		var v virtualVolume
		if err := json.Unmarshal(b, &v); err != nil {
			return nil, fmt.Errorf("KataVirtualVolume: %w", err)
		}
		volumes = append(volumes, v)
	}
	return volumes, nil
}

// planVolumes follows kata-containers#7837, which no release of Kata's has: each raw block volume becomes a read-only
// disk and a storage of its own, with driver "dmverity" where it has parameters, and an overlay of all, the first on top.
// Unlike there, mount points are per container.
func planVolumes(cid string, volumes []virtualVolume) (*Plan, error) {
	dir := filepath.Join(agentapi.VolumesDir, cid)
	overlay := agentapi.Storage{Driver: agentapi.DriverOverlay, FSType: "overlay",
		MountPoint: filepath.Join(agentapi.PassthroughDir, cid, "rootfs")}
	p := &Plan{Kind: KindVolumes}
	for i, v := range volumes {
		switch {
		case v.VolumeType != "image_raw_block" && v.VolumeType != "layer_raw_block":
			return nil, fmt.Errorf("unsupported volume type %q", v.VolumeType)
		case v.VolumeType == "image_raw_block" && len(volumes) > 1:
			return nil, fmt.Errorf("image_raw_block together with %d other volumes", len(volumes)-1)
		case v.Source == "" || v.FSType == "":
			return nil, errors.New("missing source device or filesystem for raw block volume")
		}
		s := agentapi.Storage{Driver: agentapi.DriverSCSI, FSType: v.FSType, Options: v.Options,
			MountPoint: filepath.Join(dir, fmt.Sprintf("lower-%d", i))}
		if v.DMVerity != nil {
			s.Driver = agentapi.DriverVerity
			s.DriverOptions = []string{agentapi.OptVerityInfo + string(v.DMVerity)}
		}
		overlay.Options = append(overlay.Options, "lowerdir="+s.MountPoint)
		p.Files = append(p.Files, v.Source)
		p.Storages = append(p.Storages, s)
	}
	p.Storages = append(p.Storages, overlay)
	return p, nil
}

// Annotations that tell Kata which image a guest is to pull (resource/src/rootfs/virtual_volume.rs).
const (
	annotationType  = "io.kubernetes.cri-o.ContainerType"
	annotationImage = "io.kubernetes.cri-o.ImageName"
)

// planPull makes the guest pull the image that CRI-O's annotations name, whatever the volume says; a sandbox's is the
// guest's own.
func planPull(cid string, annotations map[string]string) (*Plan, error) {
	image := annotations[annotationImage]
	if annotations[annotationType] == "sandbox" {
		image = agentapi.PauseImage
	}
	if image == "" {
		return nil, errors.New("failed to get image name from annotations")
	}
	return &Plan{Kind: KindPull, Storages: []agentapi.Storage{{Driver: agentapi.DriverGuestPull, Source: image,
		FSType: "overlay", MountPoint: filepath.Join(agentapi.ContainersDir, cid, "rootfs")}}}, nil
}
