package rootfs

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/api/types"
)

// ErrShareFS is the answer to an empty list: nothing but a shared directory could be the rootfs.
var ErrShareFS = errors.New("share fs is unavailable")

// maxDevices are 128 EROFS layers and one writable layer (erofs_rootfs.rs, MAX_ROOTFS_LAYER_DEVICES).
const maxDevices = 129

// Types of a mount, compared without regard to case.
const (
	typeErofs = "erofs"
	typeExt4  = "ext4"
)

var overlayTypes = []string{"overlay", "format/overlay", "format/mkdir/overlay"}

func isType(m *types.Mount, want string) bool { return strings.EqualFold(m.Type, want) }

func isOverlay(m *types.Mount) bool {
	return slices.ContainsFunc(overlayTypes, func(t string) bool { return isType(m, t) })
}

// IsErofsMultiLayer is erofs_rootfs.rs's is_erofs_multi_layer: at least two mounts, one EROFS and one overlay among
// them. Nothing else is looked at.
func IsErofsMultiLayer(mounts []*types.Mount) bool {
	return len(mounts) >= 2 && slices.ContainsFunc(mounts, func(m *types.Mount) bool { return isType(m, typeErofs) }) &&
		slices.ContainsFunc(mounts, isOverlay)
}

// check refuses what is not a multi-layer EROFS rootfs, in the order of mod.rs's handler_rootfs.
func check(mounts []*types.Mount) error {
	switch {
	case len(mounts) == 0:
		return ErrShareFS
	case IsErofsMultiLayer(mounts):
		return checkCount(mounts)
	case len(mounts) == 1 && hasVirtualVolume(mounts[0]):
		return nil
	case len(mounts) == 1:
		return fmt.Errorf("unsupported rootfs %v", mounts[0])
	}
	return fmt.Errorf("unsupported rootfs mounts count %d", len(mounts))
}

// hasVirtualVolume is mod.rs's is_kata_virtual_volume.
func hasVirtualVolume(m *types.Mount) bool {
	return slices.ContainsFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, optVolume) })
}

func checkCount(mounts []*types.Mount) error {
	devices := 0
	for _, m := range mounts {
		if isType(m, typeErofs) || isType(m, typeExt4) {
			devices++
		}
	}
	if devices > maxDevices {
		return fmt.Errorf("exceeded maximum block devices for multi-layer EROFS: %d > %d", devices, maxDevices)
	}
	return nil
}
