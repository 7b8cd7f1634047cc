package kata

import (
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

// agentBlockSize is the only block size that Kata's agent verifies with: runtime-rs passes neither block sizes nor
// algorithm on, and the agent takes 4096 for both and counts hashoffset/4096 data blocks
// (src/agent/src/storage/multi_layer_erofs.rs).
const agentBlockSize = 4096

// runtimeRSRootfs returns the list of which runtime-rs 4.0.0 and later builds a container's root: an erofs mount for
// each volume, topmost first (the order of the guest's lowerdir), then an overlay mount, which makes runtime-rs choose
// this way (src/runtime-rs/crates/resource/src/rootfs/erofs_rootfs.rs, is_erofs_multi_layer).
//
// Without an ext4 mount the upper directory is in the guest's memory.
func runtimeRSRootfs(r *RootfsRequest) ([]Mount, error) {
	if len(r.Volumes) > MaxRootfsVolumes {
		return nil, fmt.Errorf("%d volumes; Kata takes at most %d for a container: rebuild the image with fewer layers, or "+
			"use mode %s", len(r.Volumes), MaxRootfsVolumes, ModeImageVerity)
	}
	mounts := make([]Mount, 0, len(r.Volumes)+3)
	if r.RWLayer != nil {
		if err := checkDescriptorPath("writable layer", r.RWLayer.Path); err != nil {
			return nil, err
		}
		// What is left of the options without "loop" is mounted with in the guest (erofs_rootfs.rs, "rw layer").
		mounts = append(mounts, Mount{Type: r.RWLayer.FSType, Source: r.RWLayer.Path, Options: []string{"rw", "loop"}})
	}
	for i := len(r.Volumes) - 1; i >= 0; i-- {
		m, err := erofsMount(&r.Volumes[i], r.Mode.Verity())
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	// With a single erofs mount runtime-rs attaches the raw file and drops the verity option without a word; with two it
	// makes a GPT disk and enforces verity. It counts an empty file but makes no partition of it.
	if len(r.Volumes) == 1 && r.Mode.Verity() {
		mounts = append(mounts, Mount{Type: FSTypeErofs, Source: r.EmptyFile, Options: []string{"ro", "loop"}})
	}
	return append(mounts, Mount{Type: "overlay", Source: "overlay"}), nil
}

func erofsMount(v *volume.ManifestVolume, verity bool) (Mount, error) {
	if err := checkDescriptorPath("volume", v.Path); err != nil {
		return Mount{}, err
	}
	m := Mount{Type: FSTypeErofs, Source: v.Path, Options: []string{"ro", "loop"}}
	if !verity {
		return m, nil
	}
	if v.Verity.DataBlockSize != agentBlockSize || v.Verity.HashBlockSize != agentBlockSize {
		return m, fmt.Errorf("volume %s has data blocks of %d bytes; Kata's agent can only verify %d: use a volume of "+
			"layout %s, or a mode without verity", v.Path, v.Verity.DataBlockSize, agentBlockSize, volume.LayoutAligned)
	}
	if v.Verity.HashOffset != v.Verity.DataBlocks*agentBlockSize {
		return m, fmt.Errorf("volume %s has its hash area at %d, not right behind its %d data blocks, as Kata's "+
			"agent takes for granted", v.Path, v.Verity.HashOffset, v.Verity.DataBlocks)
	}
	m.Options = append(m.Options, verityOption+filepath.Join(filepath.Dir(v.Path), volume.VerityFileName))
	return m, nil
}

// checkDescriptorPath refuses what cannot be written in a VMDK descriptor, a text with quoted names through which QEMU
// gets the volumes (virtio_blk_modern.rs).
func checkDescriptorPath(what, path string) error {
	if strings.ContainsAny(path, "\"\n\r") {
		return fmt.Errorf("%s path %q cannot be written in a VMDK descriptor", what, path)
	}
	return nil
}
