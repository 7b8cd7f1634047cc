package driver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
// fixed, so that a leftover is overwritten; callers hold the store's lock or own the directory. A fleeting file that was
// not there is written in place, because each step of the other way is one more transaction of the file system: readers
// may see it empty.
func writeJSON(path string, v any, mode os.FileMode, how durability) (err error) {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	b = append(b, '\n')
	if how == fleeting {
		if err := writeFile(path, b, mode, os.O_EXCL, false); !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	tmp := path + ".new"
	defer func() {
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	if err := writeFile(tmp, b, mode, os.O_TRUNC, how >= whole); err != nil {
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

// readJSON decodes the file at path into v.
func readJSON(path string, v any) error {
	b, err := readFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// mkdir makes a directory with exactly this mode, of permissions only, and owner.
func mkdir(path string, mode os.FileMode, uid, gid int) error {
	return mkdirRoot(path, rootAttrs{Mode: uint32(mode), UID: uid, GID: gid})
}
