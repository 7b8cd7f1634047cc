package kata

import (
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// TestTarget has what each VMM can be offered under each runtime; want is in the refusal, "" if there is none.
func TestTarget(t *testing.T) {
	none, virtiofs := SharedFSNone, "virtio-fs"
	qemu := Target{Hypervisor: "qemu", SharedFS: &none, BlockDriver: "virtio-scsi"}
	with := func(base Target, change func(*Target)) Target { change(&base); return base }
	const rs, gort, raw = DialectRuntimeRS, DialectGo, DialectRawVolume
	for _, c := range []struct {
		name    string
		target  Target
		dialect Dialect
		mode    Mode
		volumes []volume.ManifestVolume
		want    string
	}{
		{"nothing known", Target{}, rs, ModeLayerVerity, twoLayers, ""},
		{"nothing known", Target{}, rs, ModeGuestPull, nil, ""},
		{"nothing known", Target{}, rs, ModeSharedFS, nil, ""},
		{"unheard of", Target{Hypervisor: "acrn"}, rs, ModeLayerVerity, twoLayers, ""},
		{"qemu", qemu, rs, ModeLayerVerity, twoLayers, ""},
		{"qemu, block device driver not set", Target{Hypervisor: "qemu"}, rs, ModeImageVerity, oneLayer, ""},
		{"qemu, ccw", with(qemu, func(t *Target) { t.BlockDriver = "virtio-blk-ccw" }), rs, ModeLayerVerity, twoLayers,
			`takes volumes from disks of ["virtio-scsi" "virtio-blk-pci"] only, and block_device_driver of hypervisor qemu is "virtio-blk-ccw"`},
		{"qemu, pmem", with(qemu, func(t *Target) { t.BlockDriver = "virtio-pmem" }), rs, ModeImage, oneLayer,
			"no runtime of Kata's has persistent memory"},
		{"qemu, nvdimm", with(qemu, func(t *Target) { t.BlockDriver = "nvdimm" }), gort, ModeImage, oneLayer,
			"no runtime of Kata's has persistent memory"},
		{"qemu, no block devices", with(qemu, func(t *Target) { t.NoBlockDevices = true }), rs, ModeImage, oneLayer,
			"disable_block_device_use = true"},
		{"qemu, no block devices", with(qemu, func(t *Target) { t.NoBlockDevices = true }), gort, ModeImage, oneLayer, ""},
		{"qemu, forced pull", with(qemu, func(t *Target) { t.ForceGuestPull = true }), rs, ModeImageVerity, oneLayer,
			"the runtime replaces every rootfs"},
		{"qemu, forced pull", with(qemu, func(t *Target) { t.ForceGuestPull = true }), gort, ModeSharedFS, nil,
			"the runtime replaces every rootfs"},
		{"qemu, forced pull", with(qemu, func(t *Target) { t.ForceGuestPull = true }), rs, ModeGuestPull, nil, ""},
		{"clh, verity", Target{Hypervisor: "clh"}, rs, ModeImageVerity, oneLayer, "(VMDK), and runtime-rs verifies no other"},
		{"clh, layers", Target{Hypervisor: "clh"}, rs, ModeLayer, twoLayers, "(VMDK), and the image has 2 volumes"},
		{"clh, one layer", Target{Hypervisor: "clh"}, rs, ModeLayer, oneLayer, ""},
		{"clh, image", Target{Hypervisor: "clh"}, rs, ModeImage, oneLayer, ""},
		{"clh, layers", Target{Hypervisor: "clh"}, gort, ModeLayer, twoLayers, ""},
		{"clh, layers verified", Target{Hypervisor: "clh"}, raw, ModeLayerVerity, twoLayers, ""},
		{"dragonball, image", Target{Hypervisor: "dragonball"}, rs, ModeImage, oneLayer, ""},
		{"dragonball, verity", Target{Hypervisor: "dragonball"}, rs, ModeLayerVerity, twoLayers, "VMDK"},
		{"openvmm, image", Target{Hypervisor: "openvmm"}, rs, ModeImage, oneLayer, ""},
		{"firecracker, image", Target{Hypervisor: "firecracker", BlockDriver: "virtio-blk-mmio"}, rs, ModeImage, oneLayer,
			`is "virtio-blk-mmio"`},
		{"firecracker, shared", Target{Hypervisor: "firecracker", SharedFS: &virtiofs}, gort, ModeSharedFS, nil,
			"hypervisor firecracker shares no directories"},
		{"remote", Target{Hypervisor: "remote"}, rs, ModeImageVerity, oneLayer, "attaches no disks: use mode guest-pull"},
		{"remote", Target{Hypervisor: "remote"}, gort, ModeLayer, oneLayer, "attaches no disks: use mode guest-pull"},
		{"remote", Target{Hypervisor: "remote"}, raw, ModeLayerVerity, oneLayer, "attaches no disks"},
		{"remote, pull", Target{Hypervisor: "remote", SharedFS: &none}, rs, ModeGuestPull, nil, ""},
		{"remote, pull, as it is shipped", Target{Hypervisor: "remote"}, rs, ModeGuestPull, nil, ""},
		{"remote, pull, as it is shipped", Target{Hypervisor: "remote"}, gort, ModeGuestPull, nil, ""},
		{"rs, pull beside virtio-fs", Target{Hypervisor: "qemu", SharedFS: &virtiofs}, rs, ModeGuestPull, nil,
			`only with shared_fs = "none", and it is "virtio-fs"`},
		{"go, pull beside virtio-fs", Target{Hypervisor: "qemu", SharedFS: &virtiofs}, gort, ModeGuestPull, nil, ""},
		{"rs, pull of a TEE", Target{Hypervisor: "qemu", SharedFS: &virtiofs, Confidential: true}, rs, ModeGuestPull, nil, ""},
		{"rs, shared fs not set", Target{Hypervisor: "qemu"}, rs, ModeSharedFS, nil, "shared_fs is none"},
		{"go, shared fs not set", Target{Hypervisor: "qemu"}, gort, ModeSharedFS, nil, ""},
		{"rs, virtio-fs", Target{Hypervisor: "qemu", SharedFS: &virtiofs}, rs, ModeSharedFS, nil, ""},
		{"rs, virtio-fs of a TEE", Target{Hypervisor: "qemu", SharedFS: &virtiofs, Confidential: true}, rs, ModeSharedFS, nil,
			"confidential_guest = true"},
		{"go, none", qemu, gort, ModeSharedFS, nil, "shared_fs is none"},
	} {
		r := request(c.mode, c.volumes)
		r.Target = c.target
		_, err := c.dialect.Rootfs(r)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, %s, %s: %v; want %q", c.name, c.dialect, c.mode, err, c.want)
		}
	}
	r := request(ModeSharedFS, nil)
	r.Target = with(qemu, func(t *Target) { t.Config = "/etc/kata/configuration.toml" })
	if _, err := DialectGo.Rootfs(r); err == nil || !strings.HasPrefix(err.Error(), "mode shared-fs: ") ||
		!strings.HasSuffix(err.Error(), "(Kata's configuration /etc/kata/configuration.toml)") {
		t.Errorf("the error does not name mode and file: %v", err)
	}
}
