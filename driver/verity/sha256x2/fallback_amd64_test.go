package sha256x2

import "testing"

// TestFallback does without the processor's SHA instructions, as on one that has none.
func TestFallback(t *testing.T) {
	if !available {
		t.Skip("this processor has no SHA instructions: TestSum has tested this already")
	}
	available = false
	defer func() { available = true }()
	testSum(t)
}
