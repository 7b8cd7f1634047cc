//go:build !amd64

package multisha

import "crypto/sha256"

// sumFast returns how many messages, the first ones, it has hashed.
func sumFast([][sha256.Size]byte, [][]byte) int { return 0 }
