package kata

import (
	"fmt"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// Dialect says how one kind of Kata runtime wants to be told about a container's rootfs.
type Dialect string

// The dialects. Only a program that says that it is one of Kata's two runtimes gets the first two without being told
// to by configuration; the others are for runtimes that somebody else vouches for.
const (
	DialectRuntimeRS   Dialect = "runtime-rs"   // runtime-rs 4.0 and later: EROFS mounts, a disk for all
	DialectGo          Dialect = "go"           // Kata's Go runtime: an overlay over EROFS mounts of the host
	DialectRawVolume   Dialect = "raw-volume"   // runtimes that take KataVirtualVolumes of the raw block types
	DialectBlockDevice Dialect = "block-device" // a rootfs that the host has mounted from a block device
)

// Mount is one element of CreateTaskRequest.Rootfs, containerd.types.Mount on the wire.
type Mount struct {
	Type    string
	Source  string
	Target  string
	Options []string
}

// RootfsRequest says what a container's rootfs is to be made of.
type RootfsRequest struct {
	Mode Mode

	// Volumes has the lowest first, as manifests do; of an image mode, the image's volume alone. A mode with verity
	// wants it on every one of them.
	Volumes []volume.ManifestVolume

	// RWLayer takes what the container writes; nil: the guest's memory does. It is only used where nothing is promised.
	RWLayer *volume.RWLayer

	// Target is what is known of the runtime's configuration.
	Target Target

	// EmptyFile is a regular file without content, for DialectRuntimeRS.
	EmptyFile string

	// HostMount returns where the host has mounted a volume, as the runtime sees it, for DialectGo.
	HostMount func(path string) (string, error)

	// Image and Metadata describe the image that the guest pulls, for ModeGuestPull.
	Image    string
	Metadata map[string]string
}

// Rootfs returns the CreateTaskRequest.Rootfs of a container in a mode with volumes, or with an image that the guest
// pulls. For ModeSharedFS it returns none: the runtime then goes by root.path of the container's configuration. An error
// says why this runtime, in this configuration, cannot have it; nothing less than the mode is ever returned.
func (d Dialect) Rootfs(r *RootfsRequest) ([]Mount, error) {
	if err := r.Target.offers(d, r); err != nil {
		return nil, err
	}
	switch r.Mode {
	case ModeSharedFS:
		return nil, nil
	case ModeGuestPull:
		return guestPullRootfs(r)
	}
	if err := r.checkVolumes(); err != nil {
		return nil, err
	}
	switch d {
	case DialectRuntimeRS:
		return runtimeRSRootfs(r)
	case DialectGo:
		return goRootfs(r)
	case DialectRawVolume:
		return rawVolumeRootfs(r)
	}
	return nil, fmt.Errorf("dialect %s has no volumes: it takes a rootfs that the host has mounted from a block device "+
		"(mode %s)", d, ModeSharedFS)
}

// checkVolumes wants what the mode promises, whoever asks.
func (r *RootfsRequest) checkVolumes() error {
	if len(r.Volumes) == 0 {
		return fmt.Errorf("mode %s without volumes", r.Mode)
	}
	if r.Mode.Image() && len(r.Volumes) != 1 {
		return fmt.Errorf("mode %s with %d volumes instead of the image's one", r.Mode, len(r.Volumes))
	}
	if !r.Mode.Verity() {
		return nil
	}
	for i := range r.Volumes {
		if r.Volumes[i].Verity == nil {
			return fmt.Errorf("volume %s has no dm-verity tree: Kata would mount it unverified; remove the image and pull "+
				"it again with verity switched on", r.Volumes[i].Path)
		}
	}
	if r.RWLayer != nil {
		return fmt.Errorf("writable layer %s comes from the host unverified, and could hide any file of the image: "+
			"mode %s keeps what the container writes in the guest's memory", r.RWLayer.Path, r.Mode)
	}
	return nil
}
