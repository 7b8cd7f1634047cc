package tree

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// maxLinks is how many symbolic links a path may lead through (MAXSYMLINKS, include/linux/namei.h).
const maxLinks = 40

// Lookup finds what a path names, and returns the path without links and dots. Symbolic links on the way are followed
// inside the tree, as in a container; one at the end only if follow says so.
func (s *Stack) Lookup(name string, follow bool) (*Node, string, error) {
	root, err := s.Root()
	if err != nil {
		return nil, "", err
	}
	way, names := []*Node{root}, []string{}
	todo, links := strings.Split(name, "/"), 0
	for len(todo) > 0 {
		next := todo[0]
		todo = todo[1:]
		dir := way[len(way)-1]
		switch {
		case !dir.IsDir():
			return nil, "", &fs.PathError{Op: "find", Path: name, Err: fmt.Errorf("/%s is not a directory", path.Join(names...))}
		case next == "" || next == ".":
			continue
		case next == "..":
			if len(names) > 0 {
				way, names = way[:len(way)-1], names[:len(names)-1]
			}
			continue
		}
		child, err := s.child(dir, next)
		if err != nil {
			return nil, "", &fs.PathError{Op: "find", Path: name, Err: err}
		}
		if child == nil {
			return nil, "", &fs.PathError{Op: "find", Path: name, Err: fs.ErrNotExist}
		}
		if child.Mode()&fs.ModeSymlink == 0 || len(todo) == 0 && !follow {
			way, names = append(way, child), append(names, next)
			continue
		}
		if links++; links > maxLinks {
			return nil, "", &fs.PathError{Op: "find", Path: name, Err: fmt.Errorf("more than %d symbolic links", maxLinks)}
		}
		target, err := child.Target()
		if err != nil {
			return nil, "", &fs.PathError{Op: "find", Path: name, Err: err}
		}
		todo = append(strings.Split(target, "/"), todo...)
		if path.IsAbs(target) {
			way, names = way[:1], names[:0]
		}
	}
	return way[len(way)-1], "/" + path.Join(names...), nil
}
