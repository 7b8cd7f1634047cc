package kata

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// goRootfs returns the one mount of which Kata's Go runtime, 3.19 and later, builds a root from EROFS volumes: an
// overlay whose lower directories are EROFS mounts of the host. The runtime looks up the file behind each, which has to
// be called layer.erofs, and plugs it in as a read-only disk (src/runtime/virtcontainers/container.go,
// createErofsDevices; IsErofsRootFS in kata_agent.go).
//
// No upperdir is named: the runtime takes the first mount below upperdir's parent for the writable layer, which may be
// any (parseOverlayUpperFs). Without one the guest's memory takes what the container writes.
func goRootfs(r *RootfsRequest) ([]Mount, error) {
	if r.Mode.Verity() {
		return nil, fmt.Errorf("mode %s: Kata's Go runtime cannot verify volumes; use its runtime-rs, 4.0.0 or later, or a "+
			"mode without verity", r.Mode)
	}
	if r.RWLayer != nil {
		return nil, fmt.Errorf("writable layer %s is not mounted on the host, where Kata's Go runtime looks for it: switch "+
			"writable layers off", r.RWLayer.Path)
	}
	lowers := make([]string, 0, len(r.Volumes))
	for i := len(r.Volumes) - 1; i >= 0; i-- {
		v := &r.Volumes[i]
		if filepath.Base(v.Path) != volume.FileName {
			return nil, fmt.Errorf("volume %s is not called %s, and Kata's Go runtime takes no other name", v.Path,
				volume.FileName)
		}
		mnt, err := r.HostMount(v.Path)
		if err != nil {
			return nil, err
		}
		// "lowerdir=a:b" is split at colons, without a way to escape one (parseErofsRootFsOptions).
		if strings.Contains(mnt, ":") {
			return nil, fmt.Errorf("mount point %q of volume %s has a colon, and Kata's Go runtime takes that for the end of "+
				"it: move the container store", mnt, v.Path)
		}
		lowers = append(lowers, mnt)
	}
	return []Mount{{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + strings.Join(lowers, ":")}}}, nil
}
