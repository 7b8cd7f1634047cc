package kata

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// MaxRootfsVolumes is how many volumes runtime-rs takes for one container: a GPT disk has 128 partitions
// (kata-containers 4.1.0, src/libs/kata-types/src/gpt_disk.rs).
const MaxRootfsVolumes = 128

// verityOption is the key of the mount option that names a volume's verity description, volume.VerityFileName.
// containerd's EROFS snapshotter introduced it; runtime-rs reads the file (gpt_disk.rs).
const verityOption = "X-containerd.dmverity="

// Mount is one element of CreateTaskRequest.Rootfs, containerd.types.Mount on the wire.
type Mount struct {
	Type    string
	Source  string
	Target  string
	Options []string
}

// RuntimeRSRootfs returns the Rootfs with which runtime-rs 4.0.0 and later builds a container's root from volumes: an
// erofs mount for each, topmost first (the order of the guest's lowerdir), then an overlay mount, which makes
// runtime-rs choose this way (src/runtime-rs/crates/resource/src/rootfs/erofs_rootfs.rs, is_erofs_multi_layer) and
// whose upper directory is the guest's memory, as there is no ext4 mount.
//
// volumes has the lowest first, as manifests do; all must have verity.
//
// emptyFile is a regular file without content. With a single erofs mount runtime-rs attaches the raw file and drops
// the verity option silently; with two it makes a GPT disk and enforces verity. It counts an empty file but makes no
// partition of it.
func RuntimeRSRootfs(volumes []volume.ManifestVolume, emptyFile string) ([]Mount, error) {
	if len(volumes) == 0 {
		return nil, errors.New("no volumes")
	}
	if len(volumes) > MaxRootfsVolumes {
		return nil, fmt.Errorf("%d volumes; Kata takes at most %d for a container: rebuild the image with fewer layers",
			len(volumes), MaxRootfsVolumes)
	}
	mounts := make([]Mount, 0, len(volumes)+2)
	for i := len(volumes) - 1; i >= 0; i-- {
		m, err := erofsMount(&volumes[i])
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	if len(volumes) == 1 {
		mounts = append(mounts, Mount{Type: "erofs", Source: emptyFile, Options: []string{"ro", "loop"}})
	}
	return append(mounts, Mount{Type: "overlay", Source: "overlay"}), nil
}

func erofsMount(v *volume.ManifestVolume) (Mount, error) {
	if v.Verity == nil {
		return Mount{}, fmt.Errorf("volume %s has no dm-verity tree: Kata would mount it unverified; remove the image "+
			"and pull it again with verity switched on", v.Path)
	}
	// runtime-rs passes neither block sizes nor algorithm on; its agent takes 4096 for both and counts
	// hashoffset/4096 data blocks (src/agent/src/storage/multi_layer_erofs.rs).
	if v.Verity.DataBlockSize != 4096 {
		return Mount{}, fmt.Errorf("volume %s has data blocks of %d bytes; Kata's agent can only verify 4096",
			v.Path, v.Verity.DataBlockSize)
	}
	if v.Verity.HashOffset != v.Verity.DataBlocks*4096 {
		return Mount{}, fmt.Errorf("volume %s has its hash area at %d, not right behind its %d data blocks, as Kata's "+
			"agent takes for granted", v.Path, v.Verity.HashOffset, v.Verity.DataBlocks)
	}
	// QEMU gets the volumes through a VMDK descriptor, a text with quoted names (virtio_blk_modern.rs).
	if strings.ContainsAny(v.Path, "\"\n\r") {
		return Mount{}, fmt.Errorf("volume path %q cannot be written in a VMDK descriptor", v.Path)
	}
	sidecar := filepath.Join(filepath.Dir(v.Path), volume.VerityFileName)
	return Mount{Type: "erofs", Source: v.Path, Options: []string{"ro", "loop", verityOption + sidecar}}, nil
}
