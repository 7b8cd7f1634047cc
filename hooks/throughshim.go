package hooks

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// The shim writes its address into the bundle of every container that it starts; beside the socket there is its
	// state (docs/shim.md). Other shims have their sockets in directories without one.
	addressFile    = "address"
	addressPrefix  = "unix://"
	shimSocketFile = "sock"
	shimStateFile  = "state.json"
)

// ThroughShim fails if the container of this bundle was not started by this project's shim. Only root writes in a
// bundle.
func ThroughShim(bundle string) error {
	path := filepath.Join(bundle, addressFile)
	b, err := ReadFile(path, unix.PathMax)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("no shim has left its address in the bundle")
	}
	if err != nil {
		return err
	}
	address := strings.TrimSpace(string(b))
	socket, ok := strings.CutPrefix(address, addressPrefix)
	state := filepath.Join(filepath.Dir(socket), shimStateFile)
	if !ok || !filepath.IsAbs(socket) || filepath.Base(socket) != shimSocketFile {
		return fmt.Errorf("%s names another shim, at %q", path, address)
	}
	if fi, err := os.Lstat(state); err != nil || !fi.Mode().IsRegular() {
		return fmt.Errorf("%s names another shim, at %q: %s is not there", path, address, state)
	}
	return nil
}

// ReadFile reads a regular file of at most limit bytes; not through a symlink, and without waiting for a pipe's writer.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	b, err := ReadAtMost(f, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// ReadAtMost reads to the end, which has to come within limit bytes.
func ReadAtMost(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return b, err
}
