package kata

import (
	"errors"
	"fmt"
	"slices"
)

// Target is what is known of a runtime's configuration. The zero value knows nothing: then nothing is refused for it,
// and the runtime itself fails where it cannot do what it is asked for.
type Target struct {
	// Config is the configuration file that the rest comes from, for messages.
	Config string

	// Hypervisor is the name of the hypervisor's table in Kata's configuration: "qemu", "clh", ...; "" if unknown.
	Hypervisor string

	// BlockDriver is block_device_driver; "" if the configuration does not say.
	BlockDriver string

	// SharedFS is shared_fs; nil if the configuration does not say.
	SharedFS *string

	// NoBlockDevices is disable_block_device_use, which both runtimes take for false where it is missing. The files that
	// Kata ships for its Go runtime say true since 3.26.
	NoBlockDevices bool

	// Confidential is confidential_guest.
	Confidential bool

	// ForceGuestPull says that the runtime replaces every rootfs by a pull in the guest.
	ForceGuestPull bool
}

// SharedFSNone is the value of shared_fs for a guest that shares no directory with the host.
const SharedFSNone = "none"

// Hypervisor is what a VMM can do with a container's rootfs under one of Kata's runtimes.
type Hypervisor struct {
	RawDisk   bool // a file as a disk
	VMDK      bool // a disk of several files
	HotPlug   bool // disks can be added to a running VM
	SharedDir bool // directories of the host
}

// hypervisors is what the VMMs can do under runtime-rs and under the Go runtime (kata-containers 4.1.0:
// src/runtime-rs/crates/hypervisor/src/{qemu,ch,dragonball,firecracker,openvmm,remote}, src/runtime/virtcontainers).
// Firecracker gets its disks by way of drives that exist from the start. Only QEMU's backend of runtime-rs reads the VMDK descriptor; the others attach a file of that name as a raw disk.
var hypervisors = map[Dialect]map[string]Hypervisor{
	DialectRuntimeRS: {
		"qemu":        {RawDisk: true, VMDK: true, HotPlug: true, SharedDir: true},
		"clh":         {RawDisk: true, HotPlug: true, SharedDir: true},
		"dragonball":  {RawDisk: true, HotPlug: true, SharedDir: true},
		"openvmm":     {RawDisk: true, SharedDir: true},
		"firecracker": {RawDisk: true},
		"remote":      {},
	},
	DialectGo: {
		"qemu":        {RawDisk: true, HotPlug: true, SharedDir: true},
		"clh":         {RawDisk: true, HotPlug: true, SharedDir: true},
		"dragonball":  {RawDisk: true, HotPlug: true, SharedDir: true},
		"stratovirt":  {RawDisk: true, HotPlug: true, SharedDir: true},
		"firecracker": {RawDisk: true, HotPlug: true},
		"remote":      {},
	},
}

// defaultBlockDriver is what runtime-rs uses if block_device_driver is not set (kata-types/src/config/default.rs,
// DEFAULT_BLOCK_DEVICE_TYPE).
const defaultBlockDriver = "virtio-blk-pci"

// layerDrivers are the disks that Kata's agent looks for EROFS layers on
// (src/agent/src/storage/multi_layer_erofs.rs: DRIVER_SCSI_TYPE and DRIVER_BLK_PCI_TYPE).
var layerDrivers = []string{"virtio-scsi", "virtio-blk-pci"}

// pmemDrivers are block drivers for volumes only (rootfs/block_rootfs.rs "has not been implemented yet"; the Go
// runtime's fs_share_linux.go knows no storage for it).
var pmemDrivers = []string{"virtio-pmem", "nvdimm"}

// LookUpHypervisor returns what a VMM can do under the runtime of a dialect; ok is false if that is not known.
func LookUpHypervisor(d Dialect, name string) (h Hypervisor, ok bool) {
	if d == DialectRawVolume || d == DialectBlockDevice {
		d = DialectGo // whose forks these are
	}
	if name == "cloud-hypervisor" { // what it calls itself, and this project's configuration
		name = "clh"
	}
	h, ok = hypervisors[d][name]
	return h, ok
}

// offers returns an error if the target is known not to be able to have the rootfs asked for.
func (t *Target) offers(d Dialect, r *RootfsRequest) error {
	var err error
	switch h, known := LookUpHypervisor(d, t.Hypervisor); r.Mode {
	case ModeSharedFS:
		err = t.offersSharedFS(d, h, known)
	case ModeGuestPull:
		err = t.offersGuestPull(d)
	default:
		err = t.offersVolumes(d, h, known, r)
	}
	if err != nil && t.Config != "" {
		return fmt.Errorf("mode %s: %w (Kata's configuration %s)", r.Mode, err, t.Config)
	}
	if err != nil {
		return fmt.Errorf("mode %s: %w", r.Mode, err)
	}
	return nil
}

// sharesNothing says whether guests see no directory of the host. A missing shared_fs means none to runtime-rs
// (kata-types/src/config/hypervisor/mod.rs, SharedFsInfo: an Option) and virtio-fs to the Go runtime
// (pkg/katautils/config.go, sharedFS).
func (t *Target) sharesNothing(d Dialect) bool {
	if t.SharedFS == nil {
		return d == DialectRuntimeRS && t.Hypervisor != ""
	}
	return *t.SharedFS == SharedFSNone
}

func (t *Target) offersSharedFS(d Dialect, h Hypervisor, known bool) error {
	switch {
	case t.ForceGuestPull:
		return errForced
	case d == DialectBlockDevice:
		return nil
	case t.sharesNothing(d):
		return fmt.Errorf("shared_fs is %s, so the guest cannot see the container's directory", SharedFSNone)
	case known && !h.SharedDir:
		return fmt.Errorf("hypervisor %s shares no directories with its guests", t.Hypervisor)
	case t.Confidential && d == DialectRuntimeRS:
		// Its capabilities lack FsSharing (src/runtime-rs/crates/hypervisor/src/qemu/inner.rs).
		return errors.New("confidential_guest = true, so the guest cannot see the container's directory")
	}
	return nil
}

// errForced is when the runtime would throw away what it is given (resource/src/manager_inner.rs; fs_share_linux.go,
// ShareRootFilesystem).
var errForced = errors.New("the runtime replaces every rootfs by a pull in the guest (experimental = " +
	"[\"force_guest_pull\"] or experimental_force_guest_pull = true): use mode guest-pull, or take that out")

// offersGuestPull: runtime-rs takes a guest pull's mount for a nydus rootfs unless shared_fs is none (rootfs/mod.rs,
// is_guest_pull_volume).
func (t *Target) offersGuestPull(d Dialect) error {
	if d != DialectRuntimeRS || t.Hypervisor == "" || t.sharesNothing(d) || t.Confidential || t.ForceGuestPull {
		return nil
	}
	return fmt.Errorf("runtime-rs pulls in the guest only with shared_fs = %q, and it is %q", SharedFSNone, *t.SharedFS)
}

func (t *Target) offersVolumes(d Dialect, h Hypervisor, known bool, r *RootfsRequest) error {
	driver := t.BlockDriver
	if driver == "" {
		driver = defaultBlockDriver
	}
	switch {
	case t.ForceGuestPull:
		return errForced
	case !known:
		return nil
	case !h.RawDisk:
		return fmt.Errorf("hypervisor %s attaches no disks: use mode %s", t.Hypervisor, ModeGuestPull)
	case slices.Contains(pmemDrivers, driver):
		return fmt.Errorf("block_device_driver = %q: no runtime of Kata's has persistent memory for a container's rootfs", driver)
	case d != DialectRuntimeRS && !h.HotPlug:
		return fmt.Errorf("hypervisor %s cannot plug disks into a running VM", t.Hypervisor)
	case d != DialectRuntimeRS:
		return nil // disable_block_device_use does not stop these (container.go, createErofsDevices)
	case t.NoBlockDevices:
		return errors.New("disable_block_device_use = true leaves runtime-rs without a block driver: set it to false")
	case !slices.Contains(layerDrivers, driver):
		return fmt.Errorf("the guest's agent takes volumes from disks of %q only, and block_device_driver of hypervisor %s "+
			"is %q", layerDrivers, t.Hypervisor, driver)
	case !h.VMDK && r.Mode.Verity():
		return fmt.Errorf("hypervisor %s attaches no disk of several files (VMDK), and runtime-rs verifies no other: use "+
			"qemu, or mode %s", t.Hypervisor, ModeImage)
	case !h.VMDK && len(r.Volumes) > 1:
		return fmt.Errorf("hypervisor %s attaches no disk of several files (VMDK), and the image has %d volumes: use qemu, "+
			"or mode %s", t.Hypervisor, len(r.Volumes), ModeImage)
	}
	return nil
}
