package sha256x2

import (
	"crypto/sha256"
	"encoding/binary"

	"golang.org/x/sys/cpu"
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

var available = cpu.X86.HasSSSE3 && cpu.X86.HasSSE41 && hasSHA()

// hasSHA says whether the processor has the SHA extensions.
func hasSHA() bool

// compress takes blocks, at least one, of 64 bytes from each of p and q into a and b. It does not look at lengths.
//
//go:noescape
func compress(a, b *state, p, q *byte, blocks int, k *[64]uint32, swap *[16]byte)

// Sum returns the SHA-256 of p and of q, which must be of the same length, a multiple of 64 bytes and not 0.
func Sum(p, q []byte) (a, b [sha256.Size]byte) {
	if len(p) != len(q) || len(p) == 0 || len(p)%sha256.BlockSize != 0 {
		panic("sha256x2: lengths differ, or are not a multiple of 64 bytes")
	}
	if !available {
		return sha256.Sum256(p), sha256.Sum256(q)
	}
	s, t := initial, initial
	compress(&s, &t, &p[0], &q[0], len(p)/sha256.BlockSize, &k, &swap)
	var padding [sha256.BlockSize]byte // FIPS 180-4, section 5.1.1
	padding[0] = 0x80
	binary.BigEndian.PutUint64(padding[56:], uint64(len(p))*8)
	compress(&s, &t, &padding[0], &padding[0], 1, &k, &swap)
	return s.sum(), t.sum()
}

func (s *state) sum() (sum [sha256.Size]byte) {
	for i, j := range order {
		binary.BigEndian.PutUint32(sum[4*i:], s[j])
	}
	return sum
}
