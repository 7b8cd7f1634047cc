package erofs

import (
	"cmp"
	"math"
	"slices"
)

// place is where an inode lies in the image.
type place struct {
	nid      uint64
	ino      uint32
	extended bool
	inline   bool     // the tail of the data stands behind the inode
	tail     int      // bytes of data behind the last whole block of a directory, or of a link's target
	names    []string // of a directory, sorted
}

// layout is the order and place of everything but file data.
type layout struct {
	bits      uint8   // the block size is 2^bits
	nodes     []*node // inodes in the order of their nids
	epoch     timestamp
	metaBlock uint64 // where the inodes start, on a multiple of 4096 bytes
	gap       uint64 // bytes of zeros before that
	metaSize  uint64 // in bytes
}

type timestamp struct {
	sec  int64
	nsec uint32
}

// plan places the tree below root behind the blocks, of 2^bits bytes, that file data takes.
func plan(root *node, blocks uint64, bits uint8) *layout {
	l := &layout{bits: bits}
	l.collect(root)
	l.chooseEpoch()
	for _, n := range l.nodes {
		n.extended = l.needsExtended(n)
		if n.isDir() {
			n.size = l.directorySize(n.names)
		}
	}
	// Slot 0 stays free: with nid 0 the root's inode number would be 0, which old C libraries take for a deleted entry.
	next := uint64(nidUnit)
	for _, n := range l.nodes {
		next = l.placeAt(n, next)
	}
	l.metaSize = next
	for _, n := range l.nodes {
		if own := l.ownBlocks(n); own > 0 {
			n.block = uint32(blocks)
			blocks += own
		} else if n.hasTail() {
			n.block = nullBlock
		}
	}
	l.gap = -(blocks << bits) & (BlockSize - 1)
	l.metaBlock = blocks + l.gap>>bits
	return l
}

// collect lists the inodes, every directory before what is in it, and counts links.
func (l *layout) collect(n *node) {
	l.add(n)
	n.nlink = 2
	n.names = n.sortedNames()
	for _, name := range n.names {
		if name == "." || name == ".." {
			continue
		}
		child := n.children[name]
		if child.isDir() {
			n.nlink++
			l.collect(child)
			continue
		}
		if child.nlink++; child.nlink == 1 {
			l.add(child)
		}
	}
}

func (l *layout) add(n *node) {
	l.nodes = append(l.nodes, n)
	n.ino = uint32(len(l.nodes))
}

// chooseEpoch takes the most frequent modification time, the earliest of several, as the image's: inodes that have it
// need 32 bytes instead of 64.
func (l *layout) chooseEpoch() {
	count := map[timestamp]int{}
	for _, n := range l.nodes {
		count[timestamp{n.mtime, n.mtimeNsec}]++
	}
	best := 0
	for t, c := range count {
		if c > best || c == best && t.before(l.epoch) {
			best, l.epoch = c, t
		}
	}
}

func (t timestamp) before(o timestamp) bool {
	return cmp.Or(cmp.Compare(t.sec, o.sec), cmp.Compare(t.nsec, o.nsec)) < 0
}

func (l *layout) needsExtended(n *node) bool {
	return n.mtime != l.epoch.sec || n.mtimeNsec != l.epoch.nsec || n.size > math.MaxUint32 ||
		n.uid > math.MaxUint16 || n.gid > math.MaxUint16 || n.nlink > math.MaxUint16
}

func (n *node) inodeSize() uint64 {
	if n.extended {
		return extendedInodeSize
	}
	return compactInodeSize
}

// hasTail says whether the node's data is part of the metadata: directory entries or a link's target.
func (n *node) hasTail() bool { return n.isDir() || n.fileType() == modeSymlink }

// ownBlocks returns how many blocks a directory or a link needs besides what stands behind its inode.
func (l *layout) ownBlocks(n *node) uint64 {
	if !n.hasTail() {
		return 0
	}
	if n.inline {
		return n.size / l.blockSize()
	}
	return (n.size + l.blockSize() - 1) / l.blockSize()
}

// placeAt gives n the first place at or behind offset and returns where it ends. Inodes start on slots of 32 bytes, no
// inode and no inline tail crosses a block's end: the kernel refuses the latter (erofs_map_blocks_flatmode).
func (l *layout) placeAt(n *node, offset uint64) uint64 {
	if n.hasTail() {
		n.tail = int(n.size % l.blockSize())
	}
	head := n.inodeSize() + uint64(xattrBodySize(n.xattrs))
	start := alignSlot(offset)
	for range l.blockSize() / nidUnit {
		tail := start + head
		if l.sameBlock(start, n.inodeSize()) && (n.tail == 0 || l.tailFits(n, start, tail)) {
			n.inline = n.tail > 0
			n.nid = start / nidUnit
			return tail + uint64(n.tail)
		}
		start += nidUnit
	}
	// A tail of almost a block fits nowhere behind this inode's attributes: it gets a block of its own.
	n.tail = 0
	return l.placeWithoutTail(n, alignSlot(offset), head)
}

// tailFits says whether a tail may stand behind an inode that starts at start. A link's must be in the inode's own
// block: kernels before 6.12 refuse others (erofs_fill_symlink in fs/erofs/inode.c).
func (l *layout) tailFits(n *node, start, tail uint64) bool {
	if n.isDir() {
		return l.sameBlock(tail, uint64(n.tail))
	}
	return l.sameBlock(start, tail-start+uint64(n.tail))
}

func (l *layout) placeWithoutTail(n *node, start, head uint64) uint64 {
	if !l.sameBlock(start, n.inodeSize()) {
		start += nidUnit
	}
	n.nid = start / nidUnit
	return start + head
}

func alignSlot(offset uint64) uint64 { return (offset + nidUnit - 1) &^ (nidUnit - 1) }

func (l *layout) sameBlock(start, size uint64) bool {
	return start>>l.bits == (start+size-1)>>l.bits
}

func (l *layout) blockSize() uint64 { return 1 << l.bits }

// directorySize returns the size of a directory with these names: entries never cross blocks, so each block but the
// last counts whole.
func (l *layout) directorySize(names []string) uint64 {
	var size uint64
	for block := range l.directoryBlocks(names) {
		size = (size+l.blockSize()-1)&^(l.blockSize()-1) + blockBytes(block)
	}
	return size
}

// directoryBlocks yields the names of each block of a directory in turn: as many as fit.
func (l *layout) directoryBlocks(names []string) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		start, used := 0, 0
		for i, name := range names {
			if used+direntSize+len(name) > int(l.blockSize()) {
				if !yield(names[start:i]) {
					return
				}
				start, used = i, 0
			}
			used += direntSize + len(name)
		}
		yield(slices.Clip(names[start:]))
	}
}

func blockBytes(names []string) uint64 {
	var n uint64
	for _, name := range names {
		n += direntSize + uint64(len(name))
	}
	return n
}
