// Package vm runs the stand-in's virtual machine: QEMU with emulated CPUs (TCG), a channel to the agent over
// virtio-serial and disks that are plugged in while it runs.
//
// Kata uses KVM and vsock; neither is needed here, so that the tests run on any machine. Disks reach the guest as
// under runtime-rs: a VMDK descriptor over the volume files, blockdev-add and device_add of a scsi-hd
// (kata-containers src/runtime-rs/crates/hypervisor/src/qemu/qmp.rs, hotplug_block_device).
package vm
