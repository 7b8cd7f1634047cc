// Package standin tests a stand-in for Kata Containers: a shim (cmd/containerd-shim-kata-v2) and a guest
// (cmd/guest-init) which take the Rootfs list that crio-erofs sends, attach it to a VM, verify, mount and run it as
// Kata's runtime-rs 4.x and its agent do. It lets a machine without KVM see an image go the whole way into a guest.
//
// docs/testing-guest.md says what it does like Kata, what it leaves out and how to use it.
package standin
