// Package outer runs commands in a VM that has what the machine around it may lack: KVM, vsock, device mapper and
// capabilities that containers do not get. The VM sees the machine's whole file system, read-only, under the same
// paths; what it writes goes to a disk of its own that is thrown away.
//
// Package outerinit is the VM's side.
package outer
