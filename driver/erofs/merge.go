package erofs

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Extent is a run of blocks that an image takes from a layer as they are.
type Extent struct {
	Layer  int    // index into the layers given to Merge
	From   uint64 // first block in the layer
	To     uint64 // first block in the merged image
	Blocks uint64
}

// Merged is the union of layers before it is written: file data as extents of the layers, metadata anew.
type Merged struct {
	Extents []Extent // by To, from block 1 on without gaps; each block of a layer at most once
	Blocks  uint64   // block 0 and all extents: where the metadata starts
	root    *node
	version int // of the format
}

// Merge makes the union of layers, the lowest first, as overlayfs would show it: whiteouts and opaque directories are
// applied and gone, a directory has the metadata of the topmost layer that has it. The layers must be aligned images of
// this package; the union has the highest of their format versions, so that the one of old layers stays the same.
func Merge(layers []io.ReaderAt) (*Merged, error) {
	if len(layers) == 0 {
		return nil, errors.New("no layers to merge")
	}
	var root *node
	var m memory // of all trees together
	merged := &Merged{Blocks: 1}
	for i, r := range layers {
		top, header, err := readTree(r, &m)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		merged.version = max(merged.version, header.FormatVersion())
		top.setLayer(i)
		if root == nil {
			root = top
			root.dropDeleted()
			continue
		}
		root = mergeDirectories(root, top)
	}
	merged.root = root
	root.clearPlaces()
	merged.placeData()
	if merged.Blocks > maxBlocks {
		return nil, errors.New("the layers together are larger than the 16 TiB that an image can have")
	}
	return merged, nil
}

// setLayer notes for every file of a layer's tree which layer has its data.
func (n *node) setLayer(layer int) {
	n.layer = layer
	for _, child := range n.children {
		child.setLayer(layer)
	}
}

func (n *node) isWhiteout() bool { return n.fileType() == modeCharDev && n.rdev == 0 }

// dropDeleted removes whiteouts and opaque marks from a directory that nothing is below of.
func (n *node) dropDeleted() {
	n.dropOpaque()
	for name, child := range n.children {
		switch {
		case child.isWhiteout():
			delete(n.children, name)
		case child.isDir():
			child.dropDeleted()
		}
	}
}

func (n *node) dropOpaque() {
	n.xattrs = slices.DeleteFunc(n.xattrs, func(x xattr) bool { return x == opaqueXattr })
}

// mergeDirectories puts the directory upper over lower and returns upper, which now has all.
func mergeDirectories(lower, upper *node) *node {
	// overlayfs takes the roots of all layers together, opaque or not (ovl_get_root).
	if hasOpaque(upper) && upper.parent != upper {
		upper.dropDeleted()
		return upper
	}
	upper.dropOpaque()
	for name, u := range upper.children {
		l := lower.children[name]
		switch {
		case u.isWhiteout():
			delete(upper.children, name)
		case u.isDir() && l != nil && l.isDir():
			mergeDirectories(l, u)
		case u.isDir():
			u.dropDeleted()
		}
		delete(lower.children, name)
	}
	for name, l := range lower.children {
		upper.children[name] = l
		if l.isDir() {
			l.parent = upper
		}
	}
	return upper
}

// clearPlaces forgets where the layers had their inodes.
func (n *node) clearPlaces() {
	n.place, n.nlink = place{}, 0
	for _, child := range n.children {
		child.clearPlaces()
	}
}

// placeData gives the files their blocks in the merged image, in the order of the layers and of the data in them, so
// that the data of a layer stays in one piece as far as nothing of it is deleted.
func (m *Merged) placeData() {
	seen := map[*node]bool{}
	var files []*node
	var collect func(n *node)
	collect = func(n *node) {
		for _, child := range n.children {
			if child.isDir() {
				collect(child)
			} else if child.fileType() == modeRegular && child.size > 0 && !seen[child] {
				seen[child] = true
				files = append(files, child)
			}
		}
	}
	collect(m.root)
	slices.SortFunc(files, func(a, b *node) int {
		return cmp.Or(cmp.Compare(a.layer, b.layer), cmp.Compare(a.block, b.block), cmp.Compare(a.size, b.size))
	})
	for _, n := range files {
		n.block = uint32(m.place(n.layer, uint64(n.block), (n.size+BlockSize-1)/BlockSize))
	}
}

// place appends blocks of a layer to the image, all but those that it has already because files share them, and returns
// where they are. No blocks of the layer before from come later.
func (m *Merged) place(layer int, from, blocks uint64) uint64 {
	if last := len(m.Extents) - 1; last >= 0 {
		e := &m.Extents[last]
		if end := e.From + e.Blocks; e.Layer == layer && from <= end {
			more := max(from+blocks, end) - end
			e.Blocks += more
			m.Blocks += more
			return e.To + from - e.From
		}
	}
	to := m.Blocks
	m.Blocks += blocks
	m.Extents = append(m.Extents, Extent{Layer: layer, From: from, To: to, Blocks: blocks})
	return to
}

// WriteMetadata writes what follows the extents to w, and returns the image.
func (m *Merged) WriteMetadata(w io.Writer) (*Image, error) {
	return writeMetadata(w, m.root, m.Blocks, blockBits, m.version)
}
