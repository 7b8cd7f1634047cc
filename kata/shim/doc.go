// Package shim is the interposer between CRI-O and a Kata shim.
//
// CRI-O 1.34 starts a handler's shim, connects to the socket it prints and asks for containers with an empty
// CreateTaskRequest.Rootfs. This package runs the real Kata shim, puts a proxy with a socket of its own before it, and
// fills Rootfs with the container's EROFS volumes, as the driver's manifest names them. All else goes through
// untouched, frame by frame: the proxy knows ttrpc's framing and one method.
//
// Words used here:
//
//   - real shim: the Kata shim that would run if the interposer were not there;
//   - proxy: a daemon per pod, started with the pod, gone when the real shim is gone;
//   - pod directory: what is known of a pod's proxy, under the run directory: locks, socket, state, log.
package shim
