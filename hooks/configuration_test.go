package hooks_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/hooks"
)

// A change takes effect with the next container; a damaged file stops the handlers that it is about, and those only.
func TestConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := &hooks.Configuration{Path: path}
	ours := func(handler string) bool {
		t.Helper()
		config, err := c.For(handler)
		if err != nil {
			t.Fatal(err)
		}
		_, ours := config.Handler(handler)
		return ours
	}
	write("[handlers.kata-remote]\n")
	if !ours("kata-remote") || !ours("kata-erofs") || ours("kata-cc") {
		t.Error("the file's handlers are not taken over")
	}
	write("[handlers.kata-cc]\n")
	if ours("kata-remote") || !ours("kata-cc") {
		t.Error("a changed file is not taken over")
	}
	write("[handlers.kata-cc]\nmode = []\n")
	for _, handler := range []string{"kata-cc", "kata-erofs", "kata-erofs-layer"} {
		if _, err := c.For(handler); err == nil || !strings.Contains(err.Error(), path+":2: unknown key") {
			t.Errorf("%s with a damaged file: %v", handler, err)
		}
	}
	if ours("runc") || ours("") || ours("kata-remote") {
		t.Error("a damaged file makes handlers ours")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := c.For("kata-erofs"); err == nil {
		t.Error("a named file that is gone counts as defaults")
	}
	fresh := &hooks.Configuration{Path: path}
	if _, err := fresh.For("runc"); err != nil {
		t.Errorf("runc with a file that never was: %v", err)
	}
}
