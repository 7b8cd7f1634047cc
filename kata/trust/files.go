package trust

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// fileID tells a file from another in its place, and from its own earlier content.
type fileID struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

func newFileID(fi fs.FileInfo) fileID {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}
	}
	return fileID{dev: uint64(st.Dev), ino: st.Ino, size: fi.Size(), mtime: mtime(st), ctime: ctime(st)}
}

func identify(path string) (fileID, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return fileID{}, err
	}
	return newFileID(fi), nil
}

// listFiles returns the files of a directory with this suffix, sorted. A missing directory has none. Names with a dot in
// front are left out: they are of files that are being written.
func listFiles(dir, suffix string) ([]string, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkOwner(f, fs.ModeDir); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	entries, err := os.ReadDir(dir) // sorts
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, suffix) && !strings.HasPrefix(name, ".") {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	return paths, nil
}

// readFile reads a file that only its owner, root or the user that runs this program, can have written.
func readFile(path string, most int64) ([]byte, fileID, error) {
	// O_NONBLOCK: a pipe in the file's place must not hold up a container.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fileID{}, err
	}
	defer f.Close()
	if err := checkOwner(f, 0); err != nil {
		return nil, fileID{}, fmt.Errorf("%s: %w", path, err)
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, fileID{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fileID{}, err
	}
	if int64(len(b)) > most {
		return nil, fileID{}, fmt.Errorf("%s: larger than %d bytes", path, most)
	}
	return b, newFileID(fi), nil
}

// checkOwner makes sure that nobody but root, or the user that runs this program, decides what is trusted.
func checkOwner(f *os.File, want fs.FileMode) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Mode().Type() != want {
		return fmt.Errorf("of type %s, which is not expected here", fi.Mode().Type())
	}
	if fi.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("mode %v lets others than the owner write it: chmod go-w", fi.Mode().Perm())
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("owned by uid %d, not by root: chown root", st.Uid)
	}
	return nil
}
