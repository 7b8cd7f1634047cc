package multisha

import (
	"crypto/sha256"
	"encoding/binary"
)

// initial16 is the initial hash value (FIPS 180-4, section 5.3.3), word by word for all lanes.
var initial16 = func() (s [8][Lanes]uint32) {
	for i, word := range [8]uint32{
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19} {
		for lane := range Lanes {
			s[i][lane] = word
		}
	}
	return s
}()

// compress16 takes blocks, at least one, of 64 bytes from each of p into s. It does not look at lengths.
//
//go:noescape
func compress16(s *[8][Lanes]uint32, p *[Lanes]*byte, blocks int, k *[64]uint32, swap *[16]byte)

// sum16 hashes up to Lanes messages. Lanes without one repeat the first.
func sum16(sums [][sha256.Size]byte, messages [][]byte) {
	size := len(messages[0])
	last := padding(size)
	var data, ends [Lanes]*byte
	for i := range Lanes {
		data[i], ends[i] = &messages[0][0], &last[0]
	}
	for i, m := range messages {
		data[i] = &m[0]
	}
	s := initial16
	compress16(&s, &data, size/sha256.BlockSize, &k, &swap)
	compress16(&s, &ends, 1, &k, &swap)
	for i := range sums {
		for word := range s {
			binary.BigEndian.PutUint32(sums[i][4*word:], s[word][i])
		}
	}
}
