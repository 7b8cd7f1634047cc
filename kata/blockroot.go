package kata

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
)

// BlockRoot says what Kata's Go runtime makes of a container whose rootfs is a directory that the host has mounted, as
// in kata-containers/runtime#1325: it shares the directory, or plugs in the block device that it is on.
type BlockRoot struct {
	Device string // of the host; "" means that the directory is shared
	FSType string

	// Suffix is where the rootfs is on the device: "" at its root, "rootfs" in the directory of that name. The runtime
	// knows no other place (rootfsSuffix in src/runtime/virtcontainers/container.go).
	Suffix string
}

// Shared says whether the guest gets a directory of the host.
func (b *BlockRoot) Shared() bool { return b.Device == "" }

// suffixRootfs is the directory that block-based graph drivers put a rootfs in, Docker's devicemapper among them.
const suffixRootfs = "rootfs"

// BlockProbe is how BlockRoot looks at the host.
type BlockProbe struct {
	// Device returns the number of the device that a path is on (st_dev).
	Device func(path string) (uint64, error)

	// IsBlockDevice says whether the kernel has a block device of that number: overlayfs, tmpfs and btrfs have none.
	IsBlockDevice func(device uint64) (bool, error)

	// Mounts is the runtime's mount table.
	Mounts []*mountinfo.Info
}

// errNotMounted is for a rootfs on the root file system; the Go runtime shares it.
var errNotMounted = errors.New("no mount point below /")

// BlockRoot follows hotplugDrive of the Go runtime (src/runtime/virtcontainers/container.go) for a rootfs at target. A
// runtime that must not plug in block devices (disable_block_device_use), or cannot, shares the directory.
//
// It is an error if the runtime would plug in a device and look for the rootfs in the wrong place on it. It would then
// have given the whole file system of the host to the guest, for writing.
func (p *BlockProbe) BlockRoot(target string, t *Target) (*BlockRoot, error) {
	h, known := LookUpHypervisor(DialectGo, t.Hypervisor)
	if t.NoBlockDevices || known && !h.HotPlug {
		return &BlockRoot{}, nil
	}
	device, err := p.Device(target)
	if err != nil {
		return nil, err
	}
	mountPoint, err := p.mountPoint(target, device)
	if errors.Is(err, errNotMounted) {
		return &BlockRoot{}, nil
	}
	if err != nil {
		return nil, err
	}
	if isBlock, err := p.IsBlockDevice(device); err != nil || !isBlock {
		return &BlockRoot{}, err
	}
	for _, m := range p.Mounts { // the first counts (GetDevicePathAndFsTypeOptions in utils/utils_linux.go)
		if m.Mountpoint == mountPoint {
			return blockRoot(target, mountPoint, m)
		}
	}
	return nil, fmt.Errorf("rootfs %s is on a block device whose mount point %s is not in the mount table", target, mountPoint)
}

func blockRoot(target, mountPoint string, m *mountinfo.Info) (*BlockRoot, error) {
	b := &BlockRoot{Device: m.Source, FSType: m.FSType}
	switch target {
	case mountPoint:
	case path.Join(mountPoint, suffixRootfs):
		b.Suffix = suffixRootfs
	default:
		return nil, fmt.Errorf("rootfs %s is a directory of the file system on %s, which is mounted on %s: Kata would plug in "+
			"all of it and take %s for the rootfs; set disable_block_device_use = true, or use a storage driver that "+
			"gives each container a device of its own", target, m.Source, mountPoint, path.Join(mountPoint, suffixRootfs))
	}
	return b, nil
}

// mountPoint walks up from target to where the device changes (getDeviceForPath in virtcontainers/mount.go). It does
// not look into the mount table, so that a bind mount of the same file system goes unnoticed.
func (p *BlockProbe) mountPoint(target string, device uint64) (string, error) {
	if target == "/" {
		return "/", nil
	}
	for at := target; ; {
		if at == "/" {
			return "", errNotMounted
		}
		parent := filepath.Dir(at)
		d, err := p.Device(parent)
		if err != nil {
			return "", err
		}
		if d != device {
			return at, nil
		}
		at = parent
	}
}

// Rootfs returns the CreateTaskRequest.Rootfs for a rootfs on a block device. The Go runtime finds the device by itself
// if there is none; runtime-rs has to be told, and mounts the device's root and nothing else
// (src/runtime-rs/crates/resource/src/rootfs/block_rootfs.rs).
func (b *BlockRoot) Rootfs(d Dialect) ([]Mount, error) {
	switch {
	case b.Shared():
		return nil, errors.New("the rootfs is not on a block device of its own, or Kata must not or cannot plug it in " +
			"(disable_block_device_use, or a hypervisor without hot-plug)")
	case d == DialectGo:
		return nil, nil
	case b.Suffix != "":
		return nil, fmt.Errorf("the rootfs is in the directory %s of device %s, and runtime-rs takes the device's root only",
			b.Suffix, b.Device)
	}
	return []Mount{{Type: b.FSType, Source: b.Device}}, nil
}
