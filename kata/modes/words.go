package modes

import (
	"fmt"
	"slices"
	"strings"

	"github.com/crio-erofs/crio-erofs/kata"
)

// Dialect says what a handler's real shim takes as a container's rootfs.
type Dialect string

// The dialects.
const (
	DialectAuto        Dialect = "auto"         // ask the real shim; until it has answered, as runtime-rs
	DialectRuntimeRS   Dialect = "runtime-rs"   // Kata's runtime-rs 4.0.0 and later: EROFS mounts with dm-verity
	DialectGo          Dialect = "go"           // Kata's Go runtime: an overlay of the host's EROFS mounts
	DialectRawVolume   Dialect = "raw-volume"   // a runtime that takes KataVirtualVolume's raw block types
	DialectBlockDevice Dialect = "block-device" // a rootfs that another storage driver mounts from a block device
	DialectGuestPull   Dialect = "guest-pull"   // a runtime that takes no volumes, such as peer pods'
)

// dialectModes has what each dialect can do at all. Kata's Go runtime has no dm-verity anywhere on the way of a rootfs
// (kata-containers 4.1.0, src/runtime/virtcontainers/fs_share_linux.go), nor has a block device that is the rootfs
// itself (block_rootfs.rs of runtime-rs).
var dialectModes = map[Dialect][]kata.Mode{
	DialectAuto:      kata.Modes(),
	DialectRuntimeRS: kata.Modes(),
	DialectRawVolume: kata.Modes(),
	DialectGo:        {kata.ModeLayer, kata.ModeImage, kata.ModeGuestPull, kata.ModeSharedFS},

	// Kata opens a block device that is the rootfs for writing, and volumes are shared between pods.
	DialectBlockDevice: {kata.ModeGuestPull, kata.ModeSharedFS},
	DialectGuestPull:   {kata.ModeGuestPull, kata.ModeSharedFS},
}

// Hypervisor is what a handler's VMs run on.
type Hypervisor string

// The hypervisors, as Kata calls them.
const (
	HypervisorAuto            Hypervisor = "auto" // what Kata's own configuration says
	HypervisorQEMU            Hypervisor = "qemu"
	HypervisorCloudHypervisor Hypervisor = "cloud-hypervisor"
	HypervisorDragonball      Hypervisor = "dragonball"
	HypervisorFirecracker     Hypervisor = "firecracker"
	HypervisorOpenVMM         Hypervisor = "openvmm"
	HypervisorRemote          Hypervisor = "remote"
)

// Enforce says what happens to an image whose root hashes nobody has vouched for.
type Enforce string

// What enforce can be.
const (
	EnforceOff     Enforce = "off"     // nothing is compared
	EnforceWarn    Enforce = "warn"    // a log line
	EnforceRequire Enforce = "require" // the container is not created
)

var (
	dialects = []Dialect{DialectAuto, DialectRuntimeRS, DialectGo, DialectRawVolume, DialectBlockDevice,
		DialectGuestPull}
	hypervisors = []Hypervisor{HypervisorAuto, HypervisorQEMU, HypervisorCloudHypervisor, HypervisorDragonball,
		HypervisorFirecracker, HypervisorOpenVMM, HypervisorRemote}
	enforces = []Enforce{EnforceOff, EnforceWarn, EnforceRequire}
)

// UnmarshalText takes the names of the constants only.
func (d *Dialect) UnmarshalText(b []byte) error { return setWord(d, dialects, "dialect", b) }

// UnmarshalText takes the names of the constants only.
func (h *Hypervisor) UnmarshalText(b []byte) error { return setWord(h, hypervisors, "hypervisor", b) }

// UnmarshalText takes the names of the constants only.
func (e *Enforce) UnmarshalText(b []byte) error { return setWord(e, enforces, "enforce", b) }

// modeName is a kata.Mode in the file.
type modeName kata.Mode

func (m *modeName) UnmarshalText(b []byte) error {
	mode, err := kata.ParseMode(string(b))
	*m = modeName(mode)
	return err
}

func setWord[T ~string](to *T, valid []T, what string, b []byte) error {
	if !slices.Contains(valid, T(b)) {
		return fmt.Errorf("%s %q is unknown; valid are %s", what, b, list(valid))
	}
	*to = T(b)
	return nil
}

// list writes names for people.
func list[T ~string](names []T) string {
	if len(names) == 0 {
		return "none"
	}
	s := make([]string, len(names))
	for i, n := range names {
		s[i] = string(n)
	}
	return strings.Join(s, ", ")
}
