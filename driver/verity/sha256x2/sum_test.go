package sha256x2

import (
	"crypto/sha256"
	"math/rand/v2"
	"testing"
)

func TestSum(t *testing.T) { testSum(t) }

func testSum(t *testing.T) {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{})
	data := make([]byte, 2*8192)
	for size := 64; size <= 8192; size += 64 {
		if _, err := rng.Read(data); err != nil {
			t.Fatal(err)
		}
		p, q := data[:size], data[len(data)-size:]
		a, b := Sum(p, q)
		if a != sha256.Sum256(p) || b != sha256.Sum256(q) {
			t.Fatalf("two messages of %d bytes: %x and %x, want %x and %x", size, a, b, sha256.Sum256(p), sha256.Sum256(q))
		}
	}
}

func TestSumBadLengths(t *testing.T) {
	for _, lengths := range [][2]int{{0, 0}, {64, 128}, {63, 63}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("lengths %v are taken", lengths)
				}
			}()
			Sum(make([]byte, lengths[0]), make([]byte, lengths[1]))
		}()
	}
}

func BenchmarkSum(b *testing.B) {
	data := make([]byte, 8192)
	b.Run("two at a time", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			Sum(data[:4096], data[4096:])
		}
	})
	b.Run("one after the other", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			sha256.Sum256(data[:4096])
			sha256.Sum256(data[4096:])
		}
	})
}
