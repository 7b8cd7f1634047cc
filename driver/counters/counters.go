// Package counters keeps what the driver has done in a file of the store, for who watches a node. CRI-O's process builds
// volumes, and so do processes that it starts for pulls, and all of them end sooner or later: a process's own memory would
// not do.
//
// The file is changed in place, under its lock, and not synced: after a power failure, or if it is damaged, counting begins
// anew, as it does for Prometheus when a process is restarted.
package counters

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// FileName is the file's, in the store's directory <graphroot>/erofs.
	FileName = "counters.json"

	// maxSize bounds what is read; the file has some hundred bytes.
	maxSize = 64 << 10

	version = 1
)

// Counters is what has been done since a time.
type Counters struct {
	Version int       `json:"version"`
	Since   time.Time `json:"since"`
	Layers  Built     `json:"layers"` // volumes of layers
	Images  Built     `json:"images"` // volumes of whole images
}

// Built counts volumes of a kind. Every volume that was begun is in one of Made, Reused and Failed.
type Built struct {
	Made   uint64 `json:"made"`   // are new in the store
	Reused uint64 `json:"reused"` // were in the store already, with the same content
	Failed uint64 `json:"failed"`
	Bytes  uint64 `json:"bytes"` // of those made, hash trees included

	// Took is what those made and reused took; of layers, with the time for which the pull kept them waiting.
	Took time.Duration `json:"nanoseconds"`
}

// Add changes the counters in the file at path, and makes the file if it is not there.
func Add(path string, change func(*Counters)) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }() // gives the lock up, too
	if err := lock(f, unix.LOCK_EX); err != nil {
		return err
	}
	c, err := read(f)
	if err != nil {
		c = &Counters{Since: time.Now().UTC().Truncate(time.Second)}
	}
	change(c)
	c.Version = version
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(b)))
}

// Read returns the counters in the file at path. The error matches fs.ErrNotExist if nothing was counted yet.
func Read(path string) (*Counters, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := lock(f, unix.LOCK_SH); err != nil {
		return nil, err
	}
	return read(f)
}

func read(f *os.File) (*Counters, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxSize {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", f.Name(), maxSize)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, fi.Size()))
	if err != nil {
		return nil, err
	}
	return decode(f.Name(), b)
}

func decode(name string, b []byte) (*Counters, error) {
	c := &Counters{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if c.Version != version {
		return nil, fmt.Errorf("%s: version %d is not supported", name, c.Version)
	}
	return c, nil
}

// lockTries and lockPause bound how long a lock is waited for: nobody has it for more than an instant, but for a process
// that is stopped, and no container is to wait for that.
const (
	lockTries = 100
	lockPause = 10 * time.Millisecond
)

func lock(f *os.File, how int) (err error) {
	for range lockTries {
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EWOULDBLOCK):
			time.Sleep(lockPause)
		case !errors.Is(err, unix.EINTR):
			return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
	return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
}
