// Package vmrun runs one program in a VM with a kernel, disks and file systems of the caller's choice: for tests that
// need another kernel than the host's, kernel modules that the host lacks (device-mapper), or a power cut.
//
// The guest is a Debian cloud kernel with an initramfs: vmrun-init as its first process, the program and what else the
// caller names of the host's files, with their libraries. The VM is that of the stand-in for Kata (test/standin/vm).
package vmrun
