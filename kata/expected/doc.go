// Package expected says what Kata's and Confidential Containers' tools should see of a measured image: storages and their
// options for the agent's policy, init data, reference values.
//
// The exact strings are those that Kata's runtime-rs sends to its agent for the Rootfs of package kata
// (kata-containers src/libs/kata-types/src/gpt_disk.rs, src/runtime-rs/crates/resource/src/rootfs/erofs_rootfs.rs).
package expected
