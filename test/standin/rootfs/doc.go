// Package rootfs turns the Rootfs list of a CreateTaskRequest into disks and storages, by the rules of Kata's
// runtime-rs 4.x (kata-containers src/runtime-rs/crates/resource/src/rootfs/mod.rs and erofs_rootfs.rs, main at
// 7c6ba40c54). Error texts are runtime-rs's where it has one.
//
// The stand-in behaves like a Kata with shared_fs = "none", and has no block rootfs: lists that
// ask for these are refused. Unlike any release of Kata's it takes raw block volumes, as kata-containers#7837 proposes.
package rootfs
