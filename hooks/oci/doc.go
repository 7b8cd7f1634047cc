// Package oci is the front end of package hooks for hooks of the OCI runtime specification and for the hooks directory
// of CRI-O and podman (oci-hooks(5)).
//
// The guard (Guard) is for the stage createRuntime: the runtime has made the container and has not started it. It
// fails, and thereby the container, if the pod or the NRI plugin asked for volumes and the container did not go through
// this project's shim, which is what would have attached them: because the NRI plugin was away and the pod is on
// another runtime handler, or because a handler's runtime_path is not the shim. The shim refuses by itself what comes
// to it without annotations. Kata's runtime-rs runs no createRuntime hooks of workload containers, and ignores failures
// of all others: there the shim is the only one to refuse. docs/hook.md says which runtime does what.
//
// Precreate is for the stage precreate, which podman has and CRI-O has not (it passes no extension stages to the hooks
// package, cri-o 1.34, internal/lib/container_server.go, and does not start with a hooks file that names it): it does
// to a container's configuration what the NRI plugin does in CRI-O.
package oci
