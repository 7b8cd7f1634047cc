package counters

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAdd counts from many goroutines, each with an open file of its own, as processes have.
func TestAdd(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	if c, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("nothing counted: %+v, %v", c, err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				if err := Add(path, func(c *Counters) { c.Layers.Made++; c.Images.Took += time.Second }); err != nil {
					t.Error(err)
				}
				if _, err := Read(path); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	c, err := Read(path)
	if err != nil || c.Layers.Made != 200 || c.Images.Took != 200*time.Second || time.Since(c.Since) > time.Hour {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestHeld has a process hold the lock that does not go on: others do without counting.
func TestHeld(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	holder, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	if err := unix.Flock(int(holder.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	if err := Add(path, func(c *Counters) { c.Layers.Made++ }); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("error %v", err)
	}
}

// TestDamaged: what cannot be read is begun anew, and nothing is left of a longer file.
func TestDamaged(t *testing.T) {
	for _, content := range []string{"", "{", `{"version":2}`, strings.Repeat("x", 500), strings.Repeat(" ", maxSize) + "{}"} {
		path := filepath.Join(t.TempDir(), FileName)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%.20q: %+v, %v", content, c, err)
		}
		if err := Add(path, func(c *Counters) { c.Layers.Failed++ }); err != nil {
			t.Error(err)
		}
		if c, err := Read(path); err != nil || c.Layers.Failed != 1 || c.Since.IsZero() {
			t.Errorf("%.20q: %+v, %v", content, c, err)
		}
	}
}

// TestForeign: neither a link is followed nor a pipe waited for.
func TestForeign(t *testing.T) {
	dir := t.TempDir()
	link, pipe := filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.Symlink("/etc/hostname", link), unix.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, pipe} {
		if c, err := Read(path); err == nil {
			t.Errorf("%s: %+v", path, c)
		}
	}
	if err := Add(link, func(*Counters) {}); !errors.Is(err, unix.ELOOP) {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"version":1,"since":"2026-01-01T00:00:00Z","layers":{"made":1,"nanoseconds":5}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := decode("f", b); err == nil && c.Version != version {
			t.Errorf("%+v", c)
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	path := filepath.Join(b.TempDir(), FileName)
	for b.Loop() {
		if err := Add(path, func(c *Counters) { c.Layers.Made++ }); err != nil {
			b.Fatal(err)
		}
	}
}
