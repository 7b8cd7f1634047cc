// Package tree reads what is in volumes, one by itself or a stack of them as overlayfs shows it, without mounting them
// and without root. It does not check data; verifying does.
package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	goerofs "github.com/erofs/go-erofs"
)

// Stack is a volume, or several of which one lies on the other.
type Stack struct {
	layers []fs.FS // topmost first
	merged bool    // whiteouts hide what is below, and are not shown themselves
}

// Open opens a volume as it is, with its whiteouts.
func Open(r io.ReaderAt) (*Stack, error) { return open(false, r) }

// OpenStack opens volumes, the lowest first, as an overlay of them.
func OpenStack(volumes ...io.ReaderAt) (*Stack, error) { return open(true, volumes...) }

func open(merged bool, volumes ...io.ReaderAt) (*Stack, error) {
	s := &Stack{merged: merged}
	for _, r := range slices.Backward(volumes) {
		// A reader that we did not write: what it says of our volumes is a second opinion.
		img, err := goerofs.Open(r)
		if err != nil {
			return nil, err
		}
		s.layers = append(s.layers, img)
	}
	if len(s.layers) == 0 {
		return nil, errors.New("no volumes")
	}
	return s, nil
}

// Root returns the root directory.
func (s *Stack) Root() (*Node, error) {
	var found []part
	for i := range s.layers {
		info, err := lstat(s.layers[i], ".")
		if err != nil {
			return nil, err
		}
		found = append(found, part{layer: i, path: ".", info: info})
	}
	n := s.merge("/", found)
	if n == nil || !n.IsDir() {
		return nil, errors.New("the root is not a directory")
	}
	return n, nil
}

func lstat(fsys fs.FS, path string) (fileInfo, error) {
	info, err := fs.Lstat(fsys, path)
	if err != nil {
		return nil, err
	}
	return fullInfo(info)
}

func fullInfo(info fs.FileInfo) (fileInfo, error) {
	full, ok := info.(fileInfo)
	if !ok {
		return nil, fmt.Errorf("[should never happen] go-erofs gave a %T", info)
	}
	return full, nil
}

// merge makes a node of what the layers have under one name, topmost first; nil: nothing is there.
func (s *Stack) merge(name string, found []part) *Node {
	var parts []part
	for _, p := range found {
		if s.merged && isWhiteout(p.info) || len(parts) > 0 && !p.info.IsDir() {
			break
		}
		parts = append(parts, p)
		if !p.info.IsDir() || s.merged && isOpaque(p.info) {
			break
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return &Node{fileInfo: parts[0].info, name: name, stack: s, parts: parts}
}

// child returns what a directory has under a name; nil: nothing.
func (s *Stack) child(dir *Node, name string) (*Node, error) {
	var found []part
	for _, p := range dir.parts {
		at := path.Join(p.path, name)
		info, err := lstat(s.layers[p.layer], at)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, part{layer: p.layer, path: at, info: info})
	}
	return s.merge(name, found), nil
}

// ReadDir returns what is in a directory, by name.
func (s *Stack) ReadDir(dir *Node) ([]*Node, error) {
	found := map[string][]part{}
	for _, p := range dir.parts {
		entries, err := fs.ReadDir(s.layers[p.layer], p.path)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			plain, err := e.Info()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path.Join(p.path, e.Name()), err)
			}
			info, err := fullInfo(plain)
			if err != nil {
				return nil, err
			}
			found[e.Name()] = append(found[e.Name()], part{layer: p.layer, path: path.Join(p.path, e.Name()), info: info})
		}
	}
	nodes := make([]*Node, 0, len(found))
	for name, parts := range found {
		if n := s.merge(name, parts); n != nil {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b *Node) int { return strings.Compare(a.name, b.name) })
	return nodes, nil
}

// Walk calls visit for a node, whose path is given, and for all that is below it, in the order of names.
func (s *Stack) Walk(path string, n *Node, visit func(path string, n *Node) error) error {
	return s.walk(path, n, visit, &descent{})
}

func (s *Stack) walk(at string, n *Node, visit func(path string, n *Node) error, d *descent) error {
	if err := visit(at, n); err != nil || !n.IsDir() {
		return err
	}
	if err := d.enter(n); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	defer d.leave()
	children, err := s.ReadDir(n)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	for _, child := range children {
		if err := s.walk(path.Join(at, child.name), child, visit, d); err != nil {
			return err
		}
	}
	return nil
}

// descent keeps a walk through a damaged volume from never coming to its end.
type descent struct {
	seen  map[directory]bool
	depth int
}

// directory is one of a layer.
type directory struct {
	layer int
	ino   uint64
}

// maxDepth is how deep directories may be, the root included. Those of our volumes are no deeper (driver/erofs).
const maxDepth = 2048 + 1

var errDamaged = errors.New("the volume is damaged")

func (d *descent) enter(n *Node) error {
	if d.seen == nil {
		d.seen = map[directory]bool{}
	}
	if d.depth++; d.depth > maxDepth {
		return fmt.Errorf("directories are more than %d deep: %w", maxDepth, errDamaged)
	}
	for _, p := range n.parts {
		key := directory{p.layer, p.info.Ino()}
		if d.seen[key] {
			return fmt.Errorf("this directory is in two places: %w", errDamaged)
		}
		d.seen[key] = true
	}
	return nil
}

func (d *descent) leave() { d.depth-- }
