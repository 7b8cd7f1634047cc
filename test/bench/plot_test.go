package main

import (
	"os"
	"strings"
	"testing"
)

// published are the figures of the documentation.
func published(t *testing.T) *result {
	t.Helper()
	r, err := readResult("../../docs/performance.json")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestTables wants the tables of the documentation to be those of its figures.
func TestTables(t *testing.T) {
	page, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	if err := published(t).printText(&want); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(want.String()) {
		if !strings.Contains(string(page), strings.TrimRight(line, " \n")) {
			t.Errorf("docs/performance.md lacks %q: put there what \"go run ./test/bench show docs/performance.json\" prints", line)
		}
	}
}

// TestPlots wants the drawings of the documentation to be those of its figures.
func TestPlots(t *testing.T) {
	r := published(t)
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
