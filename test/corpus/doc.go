// Package corpus has inputs of all kinds for the volume engine, and the witnesses that judge what it makes of them.
//
// Its tests turn tars of every origin (Go's own test data, GNU tar, bsdtar, Python, Debian, npm) into volumes of every
// layout and hold three witnesses against each: the kernel, which must show what GNU tar extracts; fsck.erofs, that of
// Debian 13 too, since older ones know no blocks of 512 bytes; and go-erofs, a reader that this project did not write.
//
// What is slow to get is kept in the cache folder and may be used by other tests and by benchmarks: see Trixie and NPM.
package corpus
