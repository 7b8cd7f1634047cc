package kataconfig

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/crio-erofs/crio-erofs/kata"
)

// Cache keeps what the last file said, as long as neither it nor its drop-ins change: a shim asks at every create. The
// zero value is empty.
type Cache struct {
	mu     sync.Mutex
	stamp  string
	target *kata.Target
}

// Load is the function Load with a memory. The result is shared: nobody may change it.
func (c *Cache) Load(path string) (*kata.Target, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamp, err := stampOf(path)
	if err == nil && stamp == c.stamp {
		return c.target, nil
	}
	t, err := Load(path)
	if err != nil {
		return nil, err
	}
	c.stamp, c.target = stamp, t
	return t, nil
}

// stampOf changes when a file is written, replaced, added or removed.
func stampOf(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	files, err := sources(real)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(path)
	for _, f := range files {
		fi, err := os.Stat(f)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "\n%s %d %d", f, fi.Size(), fi.ModTime().UnixNano())
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			fmt.Fprintf(&b, " %d %d %d %d", st.Dev, st.Ino, st.Ctim.Sec, st.Ctim.Nsec)
		}
	}
	return b.String(), nil
}
