// Package safefile reads files that decide what a container gets. It is not held up by a pipe in a file's place, not
// filled by a file without end, and, where it says so, not misled by a symbolic link or by a file that others wrote.
package safefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

var errTooLarge = errors.New("larger")

// Open opens a regular file for reading. Anything else at that path, a symbolic link included, is an error.
func Open(path string) (*os.File, fs.FileInfo, error) {
	f, fi, err := open(path, syscall.O_NOFOLLOW)
	if errors.Is(err, syscall.ELOOP) {
		err = fmt.Errorf("%s is a symbolic link, not a regular file", path)
	}
	return f, fi, err
}

// Read reads a file as Open does, of at most limit bytes.
func Read(path string, limit int64) ([]byte, error) {
	f, _, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, limit)
}

// ReadOwned reads a regular file of at most limit bytes that passes CheckOwner. A symbolic link is followed: whoever
// may put one there may replace the file, too. Nobody else can: see Parents.
func ReadOwned(path string, limit int64) ([]byte, fs.FileInfo, error) {
	if err := new(Parents).Check(path); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	f, fi, err := open(path, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if err := CheckOwner(fi); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	b, err := readAll(f, limit)
	return b, fi, err
}

// ReadAtMost reads to the end, which has to come within limit bytes.
func ReadAtMost(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%w than %d bytes", errTooLarge, limit)
	}
	return b, err
}

// CheckOwner returns an error unless nobody but root, or the user that runs this program, can have written the file or
// directory.
func CheckOwner(fi fs.FileInfo) error {
	if fi.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("mode %v lets others than the owner write it: chmod go-w", fi.Mode().Perm())
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("owned by uid %d, not by root: chown root", st.Uid)
	}
	return nil
}

func open(path string, flags int) (*os.File, fs.FileInfo, error) {
	// O_NONBLOCK: opening a pipe waits for no writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|flags, 0)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file but %s", path, fi.Mode().Type())
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

func readAll(f *os.File, limit int64) ([]byte, error) {
	b, err := ReadAtMost(f, limit)
	if errors.Is(err, errTooLarge) {
		err = fmt.Errorf("%s is %w", f.Name(), err)
	}
	return b, err
}
