// Package multisha computes the SHA-256 of many messages of one length at a time: the leaves of a hash tree.
//
// A processor's SHA instructions take some cycles each and depend on one another within a message. Working on two
// messages in turns keeps the processor busy; Linux does the same for fs-verity (commit a1f692fd69cc, "fsverity: Use
// 2-way interleaved SHA-256 hashing when supported"). Where there are registers of 512 bits, sixteen messages side by
// side, in ordinary instructions, are faster still.
package multisha
