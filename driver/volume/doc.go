// Package volume makes, checks and describes volumes: files with an EROFS image and the dm-verity tree over it.
//
//	[ EROFS image | verity superblock, padded to 4096 bytes | hash tree ]
//
// A volume's bytes depend on the layer's tar, the layout and the format version, on nothing else.
//
// The package also has the manifest: what the graph driver tells hooks and shim about a container's volumes.
package volume
