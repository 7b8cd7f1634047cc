package verity

import (
	"bytes"
	"crypto/sha256"

	"github.com/crio-erofs/crio-erofs/driver/verity/multisha"
)

var (
	zeros = make([]byte, HashBlockSize)

	// zeroDigests has the digests of blocks of zeros. Sparse files make many, and comparing is faster than hashing.
	zeroDigests = map[int][DigestSize]byte{512: sha256.Sum256(zeros[:512]), HashBlockSize: sha256.Sum256(zeros)}
)

// Digests puts the digests of data's blocks, of size bytes (512 or 4096) each, into digests.
func Digests(digests, data []byte, size int) {
	zero := zeroDigests[size]
	h := hasher{digests: digests}
	for i := 0; (i+1)*size <= len(data); i++ {
		block := data[i*size : (i+1)*size]
		if bytes.Equal(block, zeros[:size]) {
			copy(digests[i*DigestSize:], zero[:])
			continue
		}
		h.add(i, block)
	}
	h.flush()
}

// hasher collects as many blocks as are best hashed together.
type hasher struct {
	digests []byte
	blocks  [multisha.Lanes][]byte
	numbers [multisha.Lanes]int
	n       int
}

func (h *hasher) add(number int, block []byte) {
	h.blocks[h.n], h.numbers[h.n] = block, number
	if h.n++; h.n == len(h.blocks) {
		h.flush()
	}
}

func (h *hasher) flush() {
	var sums [multisha.Lanes][DigestSize]byte
	multisha.Sum(sums[:h.n], h.blocks[:h.n])
	for i, number := range h.numbers[:h.n] {
		copy(h.digests[number*DigestSize:], sums[i][:])
	}
	h.n = 0
}
