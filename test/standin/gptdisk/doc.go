// Package gptdisk makes one disk of several files, one partition each, without copying them: a head with the partition
// table, padding, and a VMDK descriptor that puts head, files and padding in a row.
//
// It follows runtime-rs: kata-containers src/libs/kata-types/src/gpt_disk.rs (the table),
// src/runtime-rs/crates/resource/src/rootfs/erofs_rootfs.rs (create_gpt_vmdk_config) and
// src/runtime-rs/crates/hypervisor/src/qemu/block_source.rs (render_vmdk_descriptor).
package gptdisk
