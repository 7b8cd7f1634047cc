package volume

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Create makes a volume at path, or nothing: it builds in a temporary file beside it, syncs and renames. A file that is
// there already is replaced once the new one is complete.
func Create(path string, layer io.Reader, opts BuildOptions) (d *Description, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if d, err = Build(f, layer, opts); err != nil {
		return nil, err
	}
	if err = f.Chmod(0o644); err != nil {
		return nil, err
	}
	if err = f.Sync(); err != nil {
		return nil, fmt.Errorf("sync: %w", err)
	}
	if err = f.Close(); err != nil {
		return nil, err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return nil, err
	}
	return d, SyncDir(filepath.Dir(path))
}

// SyncDir makes renames and links in a directory last.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
