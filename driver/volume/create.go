package volume

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Create makes a volume of a layer's tar at path, or nothing; see WriteFile.
func Create(path string, layer io.Reader, opts BuildOptions) (d *Description, err error) {
	err = WriteFile(path, func(f *os.File) error {
		d, err = Build(f, layer, opts)
		return err
	})
	return d, err
}

// WriteFile makes the file at path with what write writes, or nothing: it is written to a temporary file beside it,
// synced and renamed. A file that is there already is replaced once the new one is complete; anything else is refused.
func WriteFile(path string, write func(f *os.File) error) (err error) {
	if fi, err := os.Lstat(path); err == nil && !fi.Mode().IsRegular() {
		return fmt.Errorf("%s is there and not a regular file (%s): it would be replaced; name another", path, fi.Mode().Type())
	}
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+rand.Text()[:10])
	f, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644) // less the umask: an image may hold secrets
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err = write(f); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncPath(filepath.Dir(path))
}

// SyncPath makes a file's content, or the names in a directory, durable.
func SyncPath(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Sync()
}
