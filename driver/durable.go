package driver

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// durability is what a file has after a power failure soon after it was written.
type durability int

const (
	fleeting durability = iota // anything
	whole                      // the old content or the new one
	durable                    // the new content
)

// writeJSON replaces path by v as JSON in one step: readers see the old content or the new one. The temporary name is
// fixed, so that a leftover is overwritten; callers hold the store's lock or own the directory.
func writeJSON(path string, v any, mode os.FileMode, how durability) (err error) {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	tmp := path + ".new"
	defer func() {
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	if err := writeFile(tmp, append(b, '\n'), mode, how >= whole); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	if how < durable {
		return nil
	}
	return volume.SyncPath(filepath.Dir(path))
}

// writeFile writes a file and gives it the mode, whatever the umask.
func writeFile(path string, b []byte, mode os.FileMode, sync bool) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return err
	}
	if !sync {
		return nil
	}
	return f.Sync()
}

// readJSON decodes the file at path into v.
func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// mkdir makes a directory with exactly this mode and owner, whatever the umask.
func mkdir(path string, mode os.FileMode, uid, gid int) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	if err := os.Chown(path, uid, gid); err != nil {
		return err
	}
	// After chown, which may clear set-id bits.
	return os.Chmod(path, mode)
}
