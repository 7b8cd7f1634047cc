package agentapi

import (
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// PortName is the virtio-serial port of the agent; the guest finds it in /sys/class/virtio-ports/*/name.
const PortName = "kata.standin.agent.0"

// Drivers of a Storage (kata-containers src/libs/kata-types/src/device.rs, DRIVER_SCSI_TYPE).
const DriverSCSI = "scsi"

// Drivers of a Storage that is no layer of a multi-layer rootfs.
const (
	DriverVerity    = "dmverity"         // kata-containers#7837
	DriverOverlay   = "overlayfs"        // src/libs/kata-types/src/device.rs, DRIVER_OVERLAYFS_TYPE
	DriverGuestPull = "image_guest_pull" // src/agent/src/storage/image_pull_handler.rs

	// OptVerityInfo is the driver option with the dm_verity of a KataVirtualVolume (kata-containers#7837).
	OptVerityInfo = "verity_info="

	// PauseImage is the sandbox's image in a guest pull: it is in the guest (src/agent/src/confidential_data_hub).
	PauseImage = "pause"
)

// Directories of the guest.
const (
	// PassthroughDir holds <container id>/rootfs, the mount point of a container's storages
	// (kata-containers src/runtime-rs/crates/resource/src/share_fs/mod.rs, PASSTHROUGH_FS_DIR).
	PassthroughDir = "/run/kata-containers/shared/containers/passthrough"

	// ContainersDir holds a directory per container (src/agent/src/rpc.rs, CONTAINER_BASE).
	ContainersDir = "/run/kata-containers"

	// VolumesDir holds the mounts of raw block volumes (kata-containers#7837).
	VolumesDir = "/run/kata-containers/virtual-volumes/containers"

	// InitDataImages is an entry of init data with the digests of images (a JSON list), of whose volumes nothing else is
	// known. Kata has no such thing.
	InitDataImages = "image-digests.json"

	// SharedDir is the only place CopyFile writes to (share_fs/mod.rs, DEFAULT_KATA_GUEST_SHARE_DIR).
	SharedDir = "/run/kata-containers/shared/containers"

	// ShmDir is the pod's shared memory (kata-containers src/libs/kata-types/src/mount.rs,
	// DEFAULT_KATA_GUEST_SANDBOX_DIR and SHM_DIR).
	ShmDir = "/run/kata-containers/sandbox/shm"
)

// Options of a multi-layer EROFS Storage (kata-containers src/agent/src/storage/multi_layer_erofs.rs, OPT_*).
const (
	OptOverlayUpper      = "X-kata.overlay-upper"
	OptOverlayLower      = "X-kata.overlay-lower"
	OptMultiLayer        = "X-kata.multi-layer=true"
	OptMkdirPath         = "X-kata.mkdir.path="
	OptGPTPartitioned    = "X-kata.gpt-partitioned=true"
	OptPartitionNumber   = "X-kata.partition-number="
	OptVerityEnabled     = "X-kata.dmverity-enabled=true"
	OptVerityRootHash    = "X-kata.dmverity.roothash="
	OptVerityHashOffset  = "X-kata.dmverity.hashoffset="
	OptVerityNoSuper     = "X-kata.dmverity.no-superblock="
	OptVeritySalt        = "X-kata.dmverity.salt="
	OptVerityBlockSize   = "X-kata.dmverity.blocksize="
	OptVerityHashSize    = "X-kata.dmverity.hashsize="
	OptVerityAlgorithm   = "X-kata.dmverity.algorithm="
	OptVerityHashVersion = "X-kata.dmverity.hashtype="
)

// Storage tells the guest what to mount where. Fields as in agent.proto.
type Storage struct {
	Driver        string   `json:"driver"`
	DriverOptions []string `json:"driver_options"`
	Source        string   `json:"source"` // for DriverSCSI and DriverVerity: "<scsi id>:<lun>"
	FSType        string   `json:"fstype"`
	Options       []string `json:"options"`
	MountPoint    string   `json:"mount_point"`
}

// Empty is the answer of calls that only succeed or fail.
type Empty struct{}

// GuestDetails is the answer of Check.
type GuestDetails struct {
	Kernel string `json:"kernel"`
}

// CreateSandboxRequest is sent once, before anything else.
type CreateSandboxRequest struct {
	SandboxID string `json:"sandbox_id"`
	Hostname  string `json:"hostname"`
}

// CreateContainerRequest mounts the storages and prepares the first process, which waits for StartContainer.
// OCI.Root.Path is the mount point of the storages.
type CreateContainerRequest struct {
	ContainerID string      `json:"container_id"`
	Storages    []Storage   `json:"storages"`
	OCI         *specs.Spec `json:"oci"`
}

// ImageDocuments are the annotations in which a host gives a guest, for InitDataImages, the manifest and the configuration
// of a container's image.
var ImageDocuments = []string{"standin.image-manifest", "standin.image-config"}

// ContainerRequest names a container.
type ContainerRequest struct {
	ContainerID string `json:"container_id"`
}

// ProcessRequest names a process: the first one of the container if ExecID is empty.
type ProcessRequest struct {
	ContainerID string `json:"container_id"`
	ExecID      string `json:"exec_id"`
}

// ExecProcessRequest starts another process in a container.
type ExecProcessRequest struct {
	ProcessRequest
	Process *specs.Process `json:"process"`
}

// SignalProcessRequest sends a signal; All sends it to every process of the container.
type SignalProcessRequest struct {
	ProcessRequest
	Signal uint32 `json:"signal"`
	All    bool   `json:"all"`
}

// WaitProcessResponse has 128+n as the status of a process that signal n ended.
type WaitProcessResponse struct {
	Status   uint32    `json:"status"`
	ExitedAt time.Time `json:"exited_at"`
}

// WriteStreamRequest writes to a process's standard input.
type WriteStreamRequest struct {
	ProcessRequest
	Data []byte `json:"data"`
}

// ReadStreamRequest reads at most Len bytes of a process's output.
type ReadStreamRequest struct {
	ProcessRequest
	Len int `json:"len"`
}

// ReadStreamResponse has at least one byte unless EOF is set.
type ReadStreamResponse struct {
	Data []byte `json:"data"`
	EOF  bool   `json:"eof"`
}

// TtyWinResizeRequest sets the size of a process's terminal.
type TtyWinResizeRequest struct {
	ProcessRequest
	Row    uint32 `json:"row"`
	Column uint32 `json:"column"`
}

// CopyFileRequest writes Data at Offset of a file below SharedDir, or makes a directory or symbolic link there. Mode
// has the file type in its S_IFMT bits, as in agent.proto's file_mode.
type CopyFileRequest struct {
	Path   string `json:"path"`
	Mode   uint32 `json:"mode"`
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
	Offset int64  `json:"offset"`
	Data   []byte `json:"data"` // of a symbolic link: its target
}

// PidsResponse lists the processes of a container in the guest's numbers.
type PidsResponse struct {
	Pids []int `json:"pids"`
}

// OOMEvent names a container of which the guest's kernel has killed a process for want of memory.
type OOMEvent struct {
	ContainerID string `json:"container_id"`
}

// StatsResponse has what the container's cgroup says, plain numbers of cgroup v2's files.
type StatsResponse struct {
	CPUUsageUsec  uint64 `json:"cpu_usage_usec"`
	CPUUserUsec   uint64 `json:"cpu_user_usec"`
	CPUSystemUsec uint64 `json:"cpu_system_usec"`
	MemoryUsage   uint64 `json:"memory_usage"`
	MemoryLimit   uint64 `json:"memory_limit"`
	PidsCurrent   uint64 `json:"pids_current"`
	PidsLimit     uint64 `json:"pids_limit"`
}
