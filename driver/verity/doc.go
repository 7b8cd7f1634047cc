// Package verity makes and checks dm-verity hash trees for volumes: sha256, hash type 1, no salt, 4096-byte hash
// blocks.
//
// A protected volume is one file:
//
//	[ data: DataBlocks × DataBlockSize | superblock, padded to 4096 bytes | tree ]
//
// The tree's levels lie one behind the other, the top level (one block) first and the digests of the data blocks, the
// leaves, last; every level is padded with zeros to whole hash blocks. The root hash is the digest of the top level's
// block. See the kernel's Documentation/admin-guide/device-mapper/verity.rst and drivers/md/dm-verity-target.c
// (verity_ctr, verity_position_at_level), and cryptsetup's wiki page on dm-verity for the superblock.
//
// A leaf depends on its block alone. So whoever has the leaves of the parts of a volume has the leaves of the volume.
package verity
