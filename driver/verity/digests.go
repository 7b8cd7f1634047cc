package verity

import (
	"bytes"
	"crypto/sha256"

	"github.com/crio-erofs/crio-erofs/driver/verity/sha256x2"
)

var (
	zeros = make([]byte, HashBlockSize)

	// zeroDigests has the digests of blocks of zeros. Sparse files make many, and comparing is faster than hashing.
	zeroDigests = map[int][DigestSize]byte{512: sha256.Sum256(zeros[:512]), HashBlockSize: sha256.Sum256(zeros)}
)

// Digests puts the digests of data's blocks, of size bytes (512 or 4096) each, into digests.
func Digests(digests, data []byte, size int) {
	zero := zeroDigests[size]
	put := func(start int, sum [DigestSize]byte) { copy(digests[start/size*DigestSize:], sum[:]) }
	waiting := -1 // a block that is to be hashed together with the next one
	for start := 0; start < len(data); start += size {
		switch block := data[start : start+size]; {
		case bytes.Equal(block, zeros[:size]):
			put(start, zero)
		case waiting < 0:
			waiting = start
		default:
			first, second := sha256x2.Sum(data[waiting:waiting+size], block)
			put(waiting, first)
			put(start, second)
			waiting = -1
		}
	}
	if waiting >= 0 {
		put(waiting, sha256.Sum256(data[waiting:waiting+size]))
	}
}
