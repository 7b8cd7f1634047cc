# A policy for Kata's agent: containers run on the EROFS volumes of known images, verified, or not at all.
#
# crio-erofs measure --format rego prints this file followed by erofs_images, the expected options of the storages of the
# measured images, pause included if it was measured. What a container is then known to have is its image; what it runs
# (process, environment, devices) is the business of further rules: see docs/trust.md.
#
# The requests and their fields are those of kata-containers 4.1.0, src/tools/genpolicy/rules.rego; storages are as
# src/runtime-rs/crates/resource/src/rootfs/erofs_rootfs.rs makes them. regorus, the agent's engine, reads Rego v0 with
# future.keywords; so do OPA 0.x and 1.x.
package agent_policy

import future.keywords.every
import future.keywords.if
import future.keywords.in

default AddARPNeighborsRequest := true
default CloseStdinRequest := true
default CopyFileRequest := false
default CreateContainerRequest := false
default CreateSandboxRequest := false
default DestroySandboxRequest := true
default ExecProcessRequest := false
default GetMetricsRequest := true
default GetOOMEventRequest := true
default GuestDetailsRequest := true
default ListInterfacesRequest := true
default ListRoutesRequest := true
default OnlineCPUMemRequest := true
default ReadStreamRequest := true
default RemoveContainerRequest := true
default RemoveStaleVirtiofsShareMountsRequest := true
default SignalProcessRequest := true
default StartContainerRequest := true
default StatsContainerRequest := true
default TtyWinResizeRequest := true
default UpdateContainerRequest := true
default UpdateInterfaceRequest := true
default UpdateRoutesRequest := true
default WaitProcessRequest := true

# Never: they would bring other files, devices or another policy into the guest, or memory out of it.
default AddSwapRequest := false
default AddSwapPathRequest := false
default MemAgentCompactConfig := false
default MemAgentMemcgConfig := false
default MemHotplugByProbeRequest := false
default PauseContainerRequest := false
default PullImageRequest := false
default ReseedRandomDevRequest := false
default ResizeVolumeRequest := false
default ResumeContainerRequest := false
default SetGuestDateTimeRequest := false
default SetIPTablesRequest := false
default GetIPTablesRequest := false
default SetPolicyRequest := false
default StartTracingRequest := false
default StopTracingRequest := false
default UpdateEphemeralMountsRequest := false
default VolumeStatsRequest := false
default WriteStreamRequest := false
default GetDiagnosticDataRequest := false

# What comes with the sandbox goes into the guest itself: storages would be mounted anywhere in it, and hooks and kernel
# modules run there. The pod's shared memory is all that it needs (runtime-rs, resource/src/manager_inner.rs,
# get_storage_for_sandbox).
CreateSandboxRequest if {
	input.guest_hook_path == ""
	count(input.kernel_modules) == 0
	input.sandbox_pidns == false
	count(input.storages) <= 1
	every storage in input.storages {
		erofs_shared_memory(storage)
	}
}

erofs_shared_memory(storage) if {
	storage.driver == "ephemeral"
	storage.source == "shm"
	storage.fstype == "tmpfs"
	storage.mount_point == "/run/kata-containers/sandbox/shm"
	count(storage.driver_options) == 0
	every option in storage.options {
		regex.match("^(noexec|nosuid|nodev|mode=1777|size=[0-9]+)$", option)
	}
}

CreateContainerRequest if {
	erofs_rootfs
	erofs_mounts
	erofs_no_hooks
	erofs_isolated
	count(object.get(input, "shared_mounts", [])) == 0
	count(object.get(input, "devices", [])) == 0
}

# Hooks of the container would run programs of the guest, outside the container. CRI-O's own, such as the guard, stay on
# the host; of these Kata leaves empty lists (runtime-rs, container_manager/container.rs, amend_spec).
erofs_no_hooks if is_null(object.get(input.OCI, "Hooks", null))

erofs_no_hooks if {
	every hooks in input.OCI.Hooks {
		count(hooks) == 0
	}
}

# A container that mounts in the guest's own namespace could hide verified files of others; so could one with device nodes
# of the disks, or with the processes of others. Kata sends namespaces without paths; the one of mounts is "mnt" to
# runtime-rs (src/libs/protocols/src/trans.rs) and "mount" to the Go runtime, and the agent takes both.
erofs_isolated if {
	object.get(input, "sandbox_pidns", false) == false
	linux := input.OCI.Linux
	some namespace in linux.Namespaces
	namespace.Type in {"mnt", "mount"}
	every each in linux.Namespaces {
		each.Path == ""
	}
	count(object.get(linux, "Devices", [])) == 0
	count(object.get(linux, "UIDMappings", [])) == 0
	count(object.get(linux, "GIDMappings", [])) == 0
	object.get(linux, "RootfsPropagation", "") == ""
}

# The storages of the request are those of one of the images, in one of the ways that it can be given: as many, in the
# order of their partitions, each with exactly these options. That leaves no room for a storage more (an ext4 upper
# directory would hide verified files), or for an option more (X-kata.dmverity.algorithm, .hashtype, .blocksize).
erofs_rootfs if {
	some image in erofs_images
	some rootfs in image.rootfs
	count(input.storages) == count(rootfs.options)
	every i, storage in input.storages {
		erofs_storage(storage)
		storage.options == rootfs.options[i]
	}
}

# All storages are one disk's: otherwise the agent would sort partitions of several disks together.
erofs_storage(storage) if {
	storage.driver in {"scsi", "blk"}
	storage.source == input.storages[0].source
	storage.fstype == "erofs"
	storage.mount_point == erofs_mount_point
	storage.shared == false
	count(object.get(storage, "driver_options", [])) == 0
	object.get(storage, "fs_group", null) == null
}

# Where the container's own rootfs is, by its id, and by no name that leads elsewhere, or that copied files can have: those
# have dashes (erofs_copied), which CRI-O's ids have not.
erofs_mount_point := path if {
	regex.match("^[a-zA-Z0-9]+$", input.container_id)
	path := concat("", ["/run/kata-containers/shared/containers/passthrough/", input.container_id, "/rootfs"])
	input.OCI.Root.Path == path
}

# What is mounted over the image. Anything that the host can fill (bind) is let in at the places only that Kubernetes
# and CRI-O fill in every container; a bind mount elsewhere would hide verified files.
erofs_mounts if {
	every mount in object.get(input.OCI, "Mounts", []) {
		erofs_mount(mount)
	}
}

# The kernel's own file systems, at their places. With one of these options they would be bind mounts of the host's choice:
# the agent goes by the flags (src/agent/rustjail/src/mount.rs, parse_mount), and the kernel, too.
erofs_mount(mount) if {
	mount.destination == erofs_kernel_mounts[mount.type_][_]
	every option in mount.options {
		option != "bind"
		option != "rbind"
	}
}

erofs_kernel_mounts := {
	"proc": ["/proc"],
	"sysfs": ["/sys"],
	"cgroup": ["/sys/fs/cgroup"],
	"cgroup2": ["/sys/fs/cgroup"],
	"devpts": ["/dev/pts"],
	"mqueue": ["/dev/mqueue"],
	"tmpfs": ["/dev", "/dev/shm", "/run"],
}

erofs_mount(mount) if {
	mount.type_ == "bind"
	mount.destination in erofs_host_files
	erofs_host_source(mount)
}

# What is mounted there is what was copied in, or the pod's shared memory: a container that has other files of the guest,
# such as another container's, could write them (runtime-rs, volume/share_fs_volume.rs, volume/shm_volume.rs).
erofs_host_source(mount) if {
	erofs_copied(mount.source, "[^/]+$")
	not erofs_copied(mount.source, "serviceaccount$")
}

# The only directory. A container that could write there could make links for the agent to copy files through.
erofs_host_source(mount) if {
	erofs_copied(mount.source, "serviceaccount$")
	"ro" in mount.options
	every option in mount.options {
		option != "rw"
	}
}

erofs_host_source(mount) if {
	mount.destination == "/dev/shm"
	mount.source == "/run/kata-containers/sandbox/shm"
}

erofs_host_files := {
	"/dev/shm",
	"/dev/termination-log",
	"/etc/hostname",
	"/etc/hosts",
	"/etc/resolv.conf",
	"/run/.containerenv",
	"/var/run/.containerenv",
	"/var/run/secrets/kubernetes.io/serviceaccount",
	"/run/secrets/kubernetes.io/serviceaccount",
}

# The files for those places come with CopyFileRequest. Their names are those that Kata makes, CONTAINER-RANDOM-NAME, beside
# the directories of containers: what is under one of these names is no part of a root file system. The rules are those of
# kata-containers 4.1.0, src/tools/genpolicy/rules.rego (allow_copy_file) and genpolicy-settings.json (sfprefix).
# Directories other than the service account's have no place in a container (erofs_host_files).
CopyFileRequest if {
	input.file_type == "Regular"
	erofs_copied(input.path, "[^/]+$")
}

CopyFileRequest if {
	input.file_type in {"Regular", "Directory"}
	erofs_copied(input.path, "serviceaccount(/.+)?$")
}

# The agent follows symbolic links as long as they stay in its directory, so one that leads out of its own copied directory
# would have further files written over the verified ones (src/agent/src/rpc.rs, do_copy_file).
CopyFileRequest if {
	input.file_type == "Symlink"
	erofs_copied(input.path, "serviceaccount/.+$")
	not startswith(input.symlink_target, "/")
	erofs_no_way_up(input.symlink_target)
}

erofs_copied(path, rest) if {
	erofs_no_way_up(path)
	prefix := "^/run/kata-containers/shared/containers/(passthrough/)?(watchable/)?[a-z0-9]{64}-[a-z0-9]{16}-"
	regex.match(concat("", [prefix, rest]), path)
}

# "not" is true of what is no string at all, so that is asked first.
erofs_no_way_up(path) if {
	is_string(path)
	not regex.match("(^|/)\\.\\.($|/)", path)
}
