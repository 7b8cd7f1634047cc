package multisha

import (
	"crypto/sha256"
	"encoding/binary"

	"golang.org/x/sys/cpu"
)

var (
	hasPairs   = cpu.X86.HasSSSE3 && cpu.X86.HasSSE41 && hasSHA()
	hasSixteen = cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW
)

// minSixteen is from how many messages on the sixteen lanes, some of them idle, are faster than pairs.
const minSixteen = 8

// hasSHA says whether the processor has the SHA extensions.
func hasSHA() bool

// sumFast returns how many messages, the first ones, it has hashed.
func sumFast(sums [][sha256.Size]byte, messages [][]byte) (done int) {
	for hasSixteen && len(messages)-done >= minSixteen {
		n := min(Lanes, len(messages)-done)
		sum16(sums[done:done+n], messages[done:done+n])
		done += n
	}
	for hasPairs && len(messages)-done >= 2 {
		sums[done], sums[done+1] = sum2(messages[done], messages[done+1])
		done += 2
	}
	return done
}

// padding returns the last block of a message of so many bytes (FIPS 180-4, section 5.1.1).
func padding(size int) (b [sha256.BlockSize]byte) {
	b[0] = 0x80
	binary.BigEndian.PutUint64(b[56:], uint64(size)*8)
	return b
}
