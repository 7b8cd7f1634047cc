package agentapi

// GuestInfoRequest asks the guest what it has mounted and verified.
type GuestInfoRequest struct {
	KernelLog int `json:"kernel_log"` // how many of the last lines of the kernel's log
}

// GuestInfo is what the guest itself says. Nothing in it comes from the host.
type GuestInfo struct {
	Kernel     string          `json:"kernel"`
	Mounts     []string        `json:"mounts"` // the lines of /proc/mounts
	DM         []DMDevice      `json:"dm"`
	Containers []ContainerInfo `json:"containers"`
	KernelLog  []string        `json:"kernel_log"`
}

// DMDevice is a device of the guest's device mapper.
type DMDevice struct {
	Name     string `json:"name"`
	Device   string `json:"device"` // "dm-<minor>", as in /proc/mounts and in the kernel's log "<major>:<minor>"
	Table    string `json:"table"`
	Status   string `json:"status"` // of dm-verity: V verified so far, C corruption was seen
	ReadOnly bool   `json:"read_only"`
}

// ContainerInfo says what the storages of a container became.
type ContainerInfo struct {
	ID         string   `json:"id"`
	MountPoint string   `json:"mount_point"` // of the overlay
	Lowers     []string `json:"lowers"`      // mount points of the EROFS layers, topmost first
	Verity     []string `json:"verity"`      // names of the dm devices, in the order of Lowers
}
