package kata_test

import (
	"os"
	"strings"
	"testing"
)

// The samples of the documentation are the golden forms.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../docs/annotations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{goldenVolume, goldenOption} {
		if !strings.Contains(string(text), "\n"+want+"\n") {
			t.Errorf("docs/annotations.md does not have %s", want)
		}
	}
}
