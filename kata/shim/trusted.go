package shim

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/crio-erofs/crio-erofs/driver/safefile"
)

// maxLinks bounds how many symbolic links a path may lead through, as the kernel does (path_resolution(7)).
const maxLinks = 40

// trust looks at the directories that lead to files, each once. Kata opens volumes by path after they were checked, so
// nobody but root may be able to put something else there in between: every directory on the way, and every symbolic
// link, has to be root's, and nobody else may write to it. A directory in which others may write but remove nothing of
// ours (sticky, as /tmp) is fine.
type trust struct {
	checked map[string]bool
}

// path returns an error unless all directories on the way to a file are to be trusted. It goes the way that the kernel
// goes, one name after the other.
func (t *trust) path(path string) error {
	dir := filepath.Dir(path)
	if t.checked[dir] {
		return nil
	}
	at, links := "/", 0
	for names := strings.Split(dir, "/"); len(names) > 0; {
		name := names[0]
		names = names[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at) // at has no symbolic links in it
			continue
		}
		next := filepath.Join(at, name)
		target, err := trustedEntry(next)
		if err != nil {
			return err
		}
		if target == "" {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		names = append(strings.Split(target, "/"), names...)
	}
	if t.checked == nil {
		t.checked = map[string]bool{}
	}
	t.checked[dir] = true
	return nil
}

// trustedEntry checks a directory or a symbolic link, whose target it returns.
func trustedEntry(path string) (target string, err error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if err := checkDirectory(path, fi); err != nil {
		return "", err
	}
	if fi.Mode()&fs.ModeSymlink != 0 {
		return os.Readlink(path)
	}
	return "", nil
}

func checkDirectory(path string, fi fs.FileInfo) error {
	if !fi.IsDir() && fi.Mode()&fs.ModeSymlink == 0 {
		return fmt.Errorf("%s is no directory", path)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return fmt.Errorf("%s has no owner", path)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("directory %s is owned by uid %d, who could put another file there: chown root", path, st.Uid)
	case fi.IsDir() && fi.Mode().Perm()&0o022 != 0 && fi.Mode()&fs.ModeSticky == 0:
		return fmt.Errorf("directory %s has mode %v, so that others than its owner could put another file there: "+
			"chmod go-w", path, fi.Mode().Perm())
	}
	return nil
}

// open opens a regular file that nobody but root, or whoever runs this, can have written or can replace.
func (t *trust) open(path string) (*os.File, error) {
	if err := t.path(path); err != nil {
		return nil, err
	}
	f, fi, err := safefile.Open(path)
	if err != nil {
		return nil, err
	}
	if err := safefile.CheckOwner(fi); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}
