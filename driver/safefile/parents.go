package safefile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks bounds how many symbolic links a path may lead through, as the kernel does (path_resolution(7)).
const maxLinks = 40

// Parents looks at the directories that lead to files, each once. Nobody but root, or the user that runs this program,
// may be able to put something else in the place of a file: every directory on the way, and every symbolic link, has to
// be theirs, and nobody else may write to it. A directory in which others may write but remove nothing of ours (sticky,
// as /tmp) is fine. The zero value is ready for use, by one goroutine.
type Parents struct {
	checked map[string]way // by directory
}

// way is how far a path has been followed.
type way struct {
	path  string // the whole, for messages
	at    string // a directory without symbolic links in its path
	links int    // symbolic links on the way there
}

// Check returns an error unless all directories on the way to a file are to be trusted. It goes the way that the kernel
// goes, one name after the other, and on if the file itself is a symbolic link.
func (p *Parents) Check(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	dir, name := filepath.Split(path)
	w, ok := p.checked[dir]
	if !ok {
		w = way{path: path, at: "/"}
		if err := w.follow(dir); err != nil {
			return err
		}
		if p.checked == nil {
			p.checked = map[string]way{}
		}
		p.checked[dir] = w
	}
	w.path = path
	return w.followFile(name)
}

// followFile goes on from a link in the place of the file. What is no link is for whoever opens it.
func (w *way) followFile(name string) error {
	for {
		link := filepath.Join(w.at, name)
		if fi, err := os.Lstat(link); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
			return nil
		}
		target, err := trustedEntry(link)
		if err != nil {
			return err
		}
		var dir string
		dir, name = filepath.Split(target)
		if err := w.jump(target); err != nil {
			return err
		}
		if err := w.follow(dir); err != nil {
			return err
		}
	}
}

// jump is what a link does: its target is relative to where it is, or begins at the root.
func (w *way) jump(target string) error {
	if w.links++; w.links > maxLinks {
		return &fs.PathError{Op: "open", Path: w.path, Err: syscall.ELOOP}
	}
	if filepath.IsAbs(target) {
		w.at = "/"
	}
	return nil
}

// follow goes along the directories of a path.
func (w *way) follow(dir string) error {
	for names := strings.Split(dir, "/"); len(names) > 0; {
		name := names[0]
		names = names[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			w.at = filepath.Dir(w.at)
			continue
		}
		next := filepath.Join(w.at, name)
		target, err := trustedEntry(next)
		if err != nil {
			return err
		}
		if target == "" {
			w.at = next
			continue
		}
		if err := w.jump(target); err != nil {
			return err
		}
		names = append(strings.Split(target, "/"), names...)
	}
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
