package multisha

import "testing"

// TestFallback does without the processor's abilities one after the other, as on one that has none.
func TestFallback(t *testing.T) {
	sixteen, pairs := hasSixteen, hasPairs
	defer func() { hasSixteen, hasPairs = sixteen, pairs }()
	for _, has := range []struct{ sixteen, pairs bool }{{sixteen, false}, {false, pairs}, {false, false}} {
		hasSixteen, hasPairs = has.sixteen, has.pairs
		testSum(t)
	}
}

func BenchmarkSum(b *testing.B) {
	sixteen, pairs := hasSixteen, hasPairs
	defer func() { hasSixteen, hasPairs = sixteen, pairs }()
	b.Run("sixteen", func(b *testing.B) { benchmarkSum(b) })
	hasSixteen = false
	b.Run("pairs", func(b *testing.B) { benchmarkSum(b) })
	hasPairs = false
	b.Run("one", func(b *testing.B) { benchmarkSum(b) })
}
