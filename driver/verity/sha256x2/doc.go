// Package sha256x2 computes the SHA-256 of two messages at a time.
//
// A processor's SHA instructions take some cycles each and depend on one another within a message: working on two
// messages in turns keeps the processor busy. The leaves of a hash tree are such messages, independent and of one
// length. Linux does the same for fs-verity: commit a1f692fd69cc, "fsverity: Use 2-way interleaved SHA-256 hashing when
// supported".
package sha256x2
