package erofs

import (
	"cmp"
	"slices"
)

// File types within a mode (include/uapi/linux/stat.h).
const (
	modeTypeMask  = 0o170000
	modeRegular   = 0o100000
	modeDirectory = 0o040000
	modeSymlink   = 0o120000
	modeCharDev   = 0o020000
	modeBlockDev  = 0o060000
	modeFIFO      = 0o010000
)

// node is an inode of the image that is being made.
type node struct {
	mode      uint16 // type and permissions, as in stat(2)
	uid, gid  uint32
	mtime     int64 // seconds
	mtimeNsec uint32
	nlink     uint32
	size      uint64
	block     uint32 // of a regular file: where its data starts
	layer     int    // of a regular file, while layers are merged: which of them has its data
	rdev      uint32 // of a device, encoded
	target    string // of a symbolic link
	xattrs    []xattr

	parent   *node            // of a directory; the root is its own
	depth    int32            // of a directory; 0 for the root
	children map[string]*node // of a directory

	place // where layout puts it
}

// newRoot returns the root of an empty tree.
func newRoot() *node {
	root := newDirectory()
	root.parent, root.children = root, map[string]*node{}
	return root
}

// newDirectory returns a directory as implied by the name of an entry below it; node.put makes it part of a tree.
func newDirectory() *node { return &node{mode: modeDirectory | 0o755} }

func (n *node) fileType() uint16 { return n.mode & modeTypeMask }
func (n *node) isDir() bool      { return n.fileType() == modeDirectory }

// sortedNames returns the names in a directory in the order of their bytes, in which the kernel searches them
// (fs/erofs/namei.c), "." and ".." among them.
func (n *node) sortedNames() []string {
	names := make([]string, 0, len(n.children)+2)
	for name := range n.children {
		names = append(names, name)
	}
	names = append(names, ".", "..")
	slices.Sort(names)
	return names
}

// child returns the node that a name in a directory stands for, "." and ".." too.
func (n *node) child(name string) *node {
	switch name {
	case ".":
		return n
	case "..":
		return n.parent
	}
	return n.children[name]
}

// setXattr sets an extended attribute; of two with one name the later one wins.
func (n *node) setXattr(x xattr) {
	i, found := slices.BinarySearchFunc(n.xattrs, x, func(a, b xattr) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.name, b.name))
	})
	if found {
		n.xattrs[i] = x
		return
	}
	n.xattrs = slices.Insert(n.xattrs, i, x)
}
