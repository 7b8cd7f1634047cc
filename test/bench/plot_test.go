package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestPlots wants the drawings of the documentation to be those of its figures.
func TestPlots(t *testing.T) {
	text, err := os.ReadFile("../../docs/performance.json")
	if err != nil {
		t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"build.svg": r.drawBuilds(), "storage.svg": r.drawStorage()} {
		got, err := os.ReadFile("../../docs/plots/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("docs/plots/%s is not what docs/performance.json gives: run \"make plots\"", name)
		}
		if n := strings.Count(want, "<rect class"); n < 10 {
			t.Errorf("%s has %d bars", name, n)
		}
	}
}
