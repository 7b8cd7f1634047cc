package multisha

import (
	"crypto/sha256"
	"math/rand/v2"
	"testing"
)

func TestSum(t *testing.T) { testSum(t) }

func testSum(t *testing.T) {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{})
	data := make([]byte, 40*4096)
	for size := 64; size <= 4096; size += 64 {
		if _, err := rng.Read(data); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 1, 2, 7, 8, 15, 16, 17, 31, 40} {
			messages, sums := split(data, n, size)
			Sum(sums, messages)
			for i, m := range messages {
				if want := sha256.Sum256(m); sums[i] != want {
					t.Fatalf("message %d of %d of %d bytes: %x, want %x", i, n, size, sums[i], want)
				}
			}
		}
	}
}

// split returns n messages that do not lie one behind the other, and room for their sums.
func split(data []byte, n, size int) (messages [][]byte, sums [][sha256.Size]byte) {
	for i := range n {
		start := (i * 7 % n) * size
		messages = append(messages, data[start:start+size])
	}
	return messages, make([][sha256.Size]byte, n)
}

func TestSumBadLengths(t *testing.T) {
	for _, lengths := range [][2]int{{0, 0}, {64, 128}, {63, 63}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("lengths %v are taken", lengths)
				}
			}()
			Sum(make([][sha256.Size]byte, 2), [][]byte{make([]byte, lengths[0]), make([]byte, lengths[1])})
		}()
	}
}

func benchmarkSum(b *testing.B) {
	data := make([]byte, 16*4096)
	messages, sums := split(data, 16, 4096)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		Sum(sums, messages)
	}
}
