package modes_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/crio-erofs/crio-erofs/kata/modes"
)

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	if _, err := modes.Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a named file that is missing: %v", err)
	}
	write := func(text string, mode os.FileMode) {
		t.Helper()
		os.Remove(path)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("[handlers.a]\n", 0o644)
	c, err := modes.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, ours := c.Handler("a"); !ours {
		t.Errorf("got %+v", c)
	}
	for _, mode := range []os.FileMode{0o664, 0o646} {
		write("[handlers.a]\n", mode)
		if _, err := modes.Load(path); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	write("[handlers.a]\nmodes = 1", 0o644)
	if _, err := modes.Load(path); err == nil || !strings.Contains(err.Error(), path+":2: ") {
		t.Errorf("a broken file: %v", err)
	}
	write(strings.Repeat("#\n", 1<<19+1), 0o644)
	if _, err := modes.Load(path); err == nil || !strings.Contains(err.Error(), "is larger than 1048576 bytes") {
		t.Errorf("a large file: %v", err)
	}
	os.Remove(path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := modes.Load(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a pipe: %v", err)
	}
}

func TestLoadOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 1000, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := modes.Load(path); err == nil || !strings.Contains(err.Error(), "owned by uid 1000, not by root") {
		t.Errorf("got %v", err)
	}
}
