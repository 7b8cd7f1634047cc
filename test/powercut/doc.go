// Package powercut makes the disks that a power cut could have left.
//
// Killing a VM loses what its kernel has not written, but what it has written is in the host's page cache, also what a
// real disk would have had in its own cache and lost. So QEMU records every write and every flush of the disk
// (driver blklogwrites, in the format of the kernel's Documentation/admin-guide/device-mapper/log-writes.rst), and of
// that record a disk can be made for any moment: with all writes up to the last flush before it, and with any choice of
// the writes after that.
package powercut
