// Package agent is the guest's side of the stand-in for Kata: init of the VM and a stand-in for Kata's agent.
//
// It does with the storages of a container what Kata's agent does (kata-containers
// src/agent/src/storage/multi_layer_erofs.rs): partitions of the disk by number, dm-verity by root hash, EROFS
// read-only on lower-N, an overlay with an upper directory in the guest's memory. What it leaves out of Kata's agent is
// listed in docs/testing-guest.md.
package agent
