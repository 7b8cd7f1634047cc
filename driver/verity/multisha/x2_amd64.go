package multisha

import (
	"crypto/sha256"
	"encoding/binary"
)

// state is a hash state in the order of SHA256RNDS2's operands: F E B A, H G D C.
type state [8]uint32

// order says where the state has a, b, … h.
var order = [8]int{3, 2, 7, 6, 1, 0, 5, 4}

var (
	initial = state{0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667, 0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372}

	// swap is a PSHUFB mask that makes big-endian words of bytes.
	swap = [16]byte{3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12}
)

// compress2 takes blocks, at least one, of 64 bytes from each of p and q into a and b. It does not look at lengths.
//
//go:noescape
func compress2(a, b *state, p, q *byte, blocks int, k *[64]uint32, swap *[16]byte)

// sum2 hashes two messages.
func sum2(p, q []byte) (a, b [sha256.Size]byte) {
	s, t := initial, initial
	compress2(&s, &t, &p[0], &q[0], len(p)/sha256.BlockSize, &k, &swap)
	last := padding(len(p))
	compress2(&s, &t, &last[0], &last[0], 1, &k, &swap)
	return s.sum(), t.sum()
}

func (s *state) sum() (sum [sha256.Size]byte) {
	for i, j := range order {
		binary.BigEndian.PutUint32(sum[4*i:], s[j])
	}
	return sum
}
