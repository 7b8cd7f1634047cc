//go:build !amd64

package sha256x2

import "crypto/sha256"

// Sum returns the SHA-256 of p and of q.
func Sum(p, q []byte) (a, b [sha256.Size]byte) { return sha256.Sum256(p), sha256.Sum256(q) }
