// Package erofs turns an OCI layer's tar stream into an EROFS image, in one pass and reproducibly: equal tars give
// equal images, byte for byte, for one format version.
//
// The image is uncompressed and has one device:
//
//	block 0      superblock at byte 1024
//	block 1 …    file data, in the order of the tar, every file on its own blocks; then directory blocks
//	meta …       inodes, each followed by its extended attributes and, if short, its directory entries or link target
//
// Of files of at most MaxShared bytes that are equal, only the first has blocks; the others start at the same one.
//
// File data is written while the tar is read; the rest follows once the last entry is known. Nothing is extracted to
// the host's file system, so a hostile layer has no path to escape through: a name only ever leads to a node in memory.
//
// The format is that of the kernel's fs/erofs/erofs_fs.h; docs/format.md lists every field that is written. Linux 5.4
// and later mount it.
package erofs

// FormatVersion numbers the mapping from tars to images of the aligned layout. A change that alters a byte of any image
// increases it. Images of all versions since 1 are read and merged; version 1 had blocks for every file.
const FormatVersion = 2

// TarfsFormatVersion is the same for the tarfs layout.
const TarfsFormatVersion = 1

// labelPrefix and the format version make an image's volume name, so that an image tells how it was made.
const labelPrefix = "crio-erofs "
