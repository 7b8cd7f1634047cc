// Package proto is what the two ends of a vmrun say to each other: the host writes a Plan into the guest's initramfs,
// the guest's init reports on a virtio-serial port.
package proto

const (
	// PlanPath is where the guest's init finds its Plan.
	PlanPath = "/vmrun.json"

	// OutputPort has the program's output, StatusPort one Status after the other, as JSON.
	OutputPort = "vmrun.output"
	StatusPort = "vmrun.status"
)

// Plan is what the guest's init does.
type Plan struct {
	Mounts []Mount  `json:"mounts"`
	Args   []string `json:"args"` // the program and its arguments
	Env    []string `json:"env"`
	Dir    string   `json:"dir"`
}

// Mount is a disk to mount before the program runs.
type Mount struct {
	Serial  string `json:"serial"` // of the virtio-blk disk
	Target  string `json:"target"`
	FSType  string `json:"fs_type"`
	Options string `json:"options"` // for the file system, separated by commas
}

// Status says how far the guest is.
type Status struct {
	Up    bool   `json:"up"`              // the program is about to start
	Ended bool   `json:"ended"`           // the program has ended, and the disks are unmounted
	Exit  int    `json:"exit"`            // status with which it ended
	Error string `json:"error,omitempty"` // why it could not be run, or the disks not be unmounted
}
