// Package shim is the stand-in for Kata's containerd-shim-kata-v2 as CRI-O's VM runtime type drives it: the commands
// start and delete, a daemon per pod, and the ttrpc service containerd.task.v2.Task.
//
// It follows runtime-rs (kata-containers src/runtime-rs/crates/shim and crates/runtimes) in what a caller can see:
// addresses, files in the bundle, which request ends what. A VM is booted when the sandbox container is created.
package shim
