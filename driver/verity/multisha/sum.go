package multisha

import "crypto/sha256"

// Lanes is how many messages Sum can best work on at once.
const Lanes = 16

// Sum puts the SHA-256 of each message into sums. All messages have the same length, a multiple of 64 bytes and not 0.
func Sum(sums [][sha256.Size]byte, messages [][]byte) {
	for _, m := range messages {
		if len(m) != len(messages[0]) || len(m) == 0 || len(m)%sha256.BlockSize != 0 {
			panic("multisha: lengths differ, or are not a multiple of 64 bytes")
		}
	}
	done := sumFast(sums, messages)
	for i := done; i < len(messages); i++ {
		sums[i] = sha256.Sum256(messages[i])
	}
}
