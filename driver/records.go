package driver

import (
	"io/fs"
	"sync"
	"syscall"
	"time"
)

// records remembers what the store's files say: each start and stop of a container needs to know of all its layers. One
// look at a file tells whether it is still the same one.
type records struct {
	mu      sync.Mutex
	entries map[string]entry
}

type entry struct {
	stamp stamp
	value any
}

// stamp tells two versions of a file apart. Every version is a new file, renamed to its place (see writeJSON).
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

const (
	// settled is how old a file must be to be remembered. Files that are written one soon after the other may have the
	// same times, and even the same inode.
	settled = time.Second

	// maxEntries bounds the memory. It is more than the layers and volumes of a node; beyond it, all are read anew.
	maxEntries = 16384
)

func stampOf(path string) (stamp, error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return stamp{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return stamp{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}, nil
}

// recall returns what was remembered under this name when the file had this stamp.
func (r *records) recall(name string, now stamp) (any, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.entries[name]
	return e.value, ok && e.stamp == now
}

// remember notes a value that holds for as long as a file has this stamp, which was taken before the value was found.
func (r *records) remember(name string, s stamp, value any) {
	if time.Since(time.Unix(s.ctime.Unix())) < settled {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(name, s, value)
}

// rememberOwn notes what this process has just written to a file, under the store's lock. The file has not settled; but for
// another one with its stamp another process would have to remove it and make one of the same name and size, with the
// same inode, within a tick of the clock.
func (r *records) rememberOwn(name string, value any) {
	s, err := stampOf(name)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(name, s, value)
}

func (r *records) put(name string, s stamp, value any) {
	if r.entries == nil || len(r.entries) >= maxEntries {
		r.entries = map[string]entry{}
	}
	r.entries[name] = entry{s, value}
}

// forget forgets what is known under a name, so that what is gone takes no memory.
func (r *records) forget(names ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		delete(r.entries, name)
	}
}

// remembered decodes the JSON file at path, or returns what it said the last time. The value is the caller's own as far
// as assignments copy it.
func remembered[T any](r *records, path string) (*T, error) {
	now, err := stampOf(path)
	if err != nil {
		return nil, err
	}
	if known, ok := r.recall(path, now); ok {
		value := known.(T)
		return &value, nil
	}
	var value T
	if err := readJSON(path, &value); err != nil {
		return nil, err
	}
	r.remember(path, now, value)
	return &value, nil
}
