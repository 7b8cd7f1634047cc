// Package kata holds what this project and Kata Containers say to each other: the annotations on a container's OCI
// configuration, the RFC's ExtraOption, and KataVirtualVolume, each with a strict encoder and decoder.
//
// Both types describe one volume: a file of the host with an EROFS file system and, behind it in the same file, a
// dm-verity hash tree. They travel as standard base64 (padded) of JSON in the annotations that VolumeKey and
// ExtraOptionKey name; volume 0 is the lowest. docs/annotations.md says where each field comes from.
//
// Three programs of others read or write these formats, and they do not agree with each other in everything. The
// encoders emit what all of them understand, the decoders refuse what any of them would read differently (unknown or
// repeated keys, keys in another case, null):
//
//   - nydus-snapshotter, snapshot/mount_option.go: both types, without salt, hash_type and no_superblock;
//   - Kata's Go runtime, src/runtime/virtcontainers/types/virtual_volume.go: KataVirtualVolume, the same six fields;
//   - Kata's runtime-rs, src/libs/kata-types/src/mount.rs: KataVirtualVolume with the three fields more.
package kata
