package erofs

import (
	"errors"
	"fmt"
	"strings"
)

const (
	maxName     = 255  // EROFS_NAME_LEN
	maxPath     = 4095 // PATH_MAX without its NUL: nothing could open a longer one
	maxSymlinks = 40   // MAXSYMLINKS of include/linux/namei.h
	maxDepth    = 2048 // of directories: one more and no path of maxPath bytes reaches it
)

var errDepth = fmt.Errorf("directories nested more than %d deep, which no path can reach", maxDepth)

// tree is what a layer's entries make.
type tree struct {
	root *node
	memory
}

func newTree() *tree { return &tree{root: newRoot()} }

// splitPath takes the name of a tar entry, or the target of a hard link, apart. Names count from the layer's root,
// whether or not they start with a slash (GNU tar and containers/storage see it so, and images built by ko are made
// so). A ".." takes the component before it away, and must not lead out of the root.
func splitPath(name string) ([]string, error) {
	if len(name) > maxPath {
		return nil, fmt.Errorf("path of %d bytes; Linux takes at most %d", len(name), maxPath)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return nil, errors.New("path with a NUL byte")
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
		case part == ".." && len(parts) == 0:
			return nil, errors.New(`path with ".." that leads out of the layer`)
		case part == "..":
			parts = parts[:len(parts)-1]
		case len(part) > maxName:
			return nil, fmt.Errorf("path component of %d bytes; Linux takes at most %d", len(part), maxName)
		default:
			parts = append(parts, part)
		}
	}
	return parts, nil
}

// directory returns the directory at parts, creating what is missing as mkdir -p would: containers/storage,
// too, gives implied directories mode 0755 and root as owner. Symbolic links that the layer itself made on the way are
// followed inside the layer, as an extraction below a chroot follows them.
func (t *tree) directory(parts []string) (*node, error) {
	dir, links := t.root, 0
	for len(parts) > 0 {
		name := parts[0]
		parts = parts[1:]
		if name == ".." { // from a link's target
			dir = dir.parent
			continue
		}
		next, ok := dir.children[name]
		switch {
		case !ok:
			next = newDirectory()
			if err := t.put(dir, name, next); err != nil {
				return nil, err
			}
		case next.fileType() == modeSymlink:
			if links++; links > maxSymlinks {
				return nil, fmt.Errorf("more than %d symbolic links on the way to it", maxSymlinks)
			}
			if strings.HasPrefix(next.target, "/") {
				dir = t.root
			}
			var err error
			if parts, err = spliceTarget(next.target, parts); err != nil {
				return nil, err
			}
			continue
		case !next.isDir():
			return nil, fmt.Errorf("%q on the way to it is not a directory", name)
		}
		dir = next
	}
	return dir, nil
}

func spliceTarget(target string, rest []string) ([]string, error) {
	var parts []string
	for part := range strings.SplitSeq(target, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
		if len(part) > maxName {
			return nil, fmt.Errorf("symbolic link on the way to it has a component of %d bytes", len(part))
		}
	}
	return append(parts, rest...), nil
}

// lookup returns the node at parts, not following a symbolic link at the end, or nil.
func (t *tree) lookup(parts []string) *node {
	if len(parts) == 0 {
		return t.root
	}
	dir, links := t.root, 0
	for i := 0; i < len(parts)-1; i++ {
		if parts[i] == ".." {
			dir = dir.parent
			continue
		}
		next := dir.children[parts[i]]
		switch {
		case next == nil:
			return nil
		case next.fileType() == modeSymlink:
			rest, err := spliceTarget(next.target, parts[i+1:])
			if links++; links > maxSymlinks || err != nil {
				return nil
			}
			if strings.HasPrefix(next.target, "/") {
				dir = t.root
			}
			parts, i = rest, -1
			continue
		case !next.isDir():
			return nil
		}
		dir = next
	}
	return dir.children[parts[len(parts)-1]]
}

// put makes name in dir stand for n, as extracting it over what is there would: a directory over a directory keeps its
// entries and takes the new metadata, anything else is replaced.
func (t *tree) put(dir *node, name string, n *node) error {
	if err := t.takeName(name, n); err != nil {
		return err
	}
	old := dir.children[name]
	if old != nil && old.isDir() && n.isDir() {
		old.setMetadata(n)
		return nil
	}
	if n.isDir() {
		if n.depth = dir.depth + 1; n.depth > maxDepth {
			return errDepth
		}
		n.parent, n.children = dir, map[string]*node{}
	}
	dir.children[strings.Clone(name)] = n // the header that it is a part of may be a megabyte
	return nil
}

// setMetadata gives a directory the metadata of another; that it is opaque it keeps.
func (n *node) setMetadata(from *node) {
	opaque := hasOpaque(n)
	n.mode, n.uid, n.gid, n.mtime, n.mtimeNsec = from.mode, from.uid, from.gid, from.mtime, from.mtimeNsec
	n.xattrs = from.xattrs
	if opaque {
		n.setXattr(opaqueXattr)
	}
}

func hasOpaque(n *node) bool {
	for _, x := range n.xattrs {
		if x == opaqueXattr {
			return true
		}
	}
	return false
}
