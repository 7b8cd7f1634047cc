package kata

import "fmt"

const (
	// VolumeOption is the mount option that holds an encoded VirtualVolume (src/libs/kata-types/src/mount.rs,
	// KATA_VIRTUAL_VOLUME_PREFIX; nydus-snapshotter snapshot/mount_option.go).
	VolumeOption = "io.katacontainers.volume="

	// ExtraOptionOption is the mount option that holds an encoded ExtraOption, as nydus-snapshotter writes it.
	ExtraOptionOption = "extraoption="

	// VirtualVolumeMount is the type of a mount with VolumeOption. Nothing of nydus takes part: the name keeps the Go
	// runtime from mounting it on the host (IsNydusRootFSType in src/runtime/virtcontainers/kata_agent.go).
	VirtualVolumeMount = "fuse.nydus-overlayfs"
)

// guestPullRootfs returns the mount with which CRI-O 1.34 asks for a pull by the guest (runtime_pull_image), which both
// runtimes take. Source stays empty, or the Go runtime resolves it as a path (src/runtime/pkg/katautils/create.go).
func guestPullRootfs(r *RootfsRequest) ([]Mount, error) {
	return virtualVolumes("", NewGuestPullVolume(r.Image, r.Metadata))
}

// rawVolumeRootfs returns the mount of nydus-snapshotter's tarfs modes: a VirtualVolume for each volume, topmost first
// (snapshot/mount_option.go), for runtimes that verify and mount them, as Kata's CCv0 branch did and
// kata-containers#7837 proposes. No release of Kata's does: the Go runtime ignores them and the container finds an
// empty root, runtime-rs refuses them.
func rawVolumeRootfs(r *RootfsRequest) ([]Mount, error) {
	if r.RWLayer != nil {
		return nil, fmt.Errorf("writable layer %s: virtual volumes are read-only; switch writable layers off", r.RWLayer.Path)
	}
	volumes := make([]*VirtualVolume, 0, len(r.Volumes))
	for i := len(r.Volumes) - 1; i >= 0; i-- {
		v := NewLayerVolume(&r.Volumes[i])
		if r.Mode.Image() {
			v = NewImageVolume(&r.Volumes[i])
		}
		if !r.Mode.Verity() {
			v.DMVerity = nil
		}
		volumes = append(volumes, v)
	}
	return virtualVolumes("overlay", volumes...)
}

func virtualVolumes(source string, volumes ...*VirtualVolume) ([]Mount, error) {
	m := Mount{Type: VirtualVolumeMount, Source: source}
	for _, v := range volumes {
		s, err := v.Encode()
		if err != nil {
			return nil, err
		}
		m.Options = append(m.Options, VolumeOption+s)
	}
	return []Mount{m}, nil
}
