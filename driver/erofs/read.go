package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrCorrupt is what errors match that say an image's metadata cannot be right.
var ErrCorrupt = errors.New("corrupt EROFS image")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
}

// maxMetadata bounds what is read into memory of one image's metadata, in bytes: a thousand times that of a large
// image.
const maxMetadata = 1 << 31

// treeReader reads the tree of an aligned image of ours. It takes nothing on trust: every length and place is
// checked against the image before it is used.
type treeReader struct {
	r       io.ReaderAt
	header  *Header
	nodes   map[uint64]*node // by nid
	entries uint64           // of all directories so far
	budget  int64            // of bytes that may still be read
	memory  *memory          // that the trees of all layers take
}

// readTree returns the tree of an image in our aligned layout. m counts what it takes in memory.
func readTree(r io.ReaderAt, m *memory) (*node, *Header, error) {
	h, err := ReadHeader(r)
	if err != nil {
		return nil, nil, err
	}
	if v := h.FormatVersion(); v < 1 || v > FormatVersion || h.BlockSize != BlockSize || h.Incompat != 0 {
		return nil, nil, fmt.Errorf("image is labelled %q, with blocks of %d bytes and features %#x; only images of format "+
			"versions 1 to %d can be read: build the layer again, or use the release that made it", h.Label, h.BlockSize,
			h.Incompat, FormatVersion)
	}
	if !h.ChecksumOK {
		return nil, nil, corrupt("the superblock's checksum does not fit")
	}
	if h.MetaBlock == 0 || h.MetaBlock >= h.Blocks {
		return nil, nil, corrupt("metadata starts at block %d of %d", h.MetaBlock, h.Blocks)
	}
	t := &treeReader{r: r, header: h, nodes: map[uint64]*node{}, budget: maxMetadata, memory: m}
	root, err := t.inode(h.RootNid)
	if err != nil {
		return nil, nil, err
	}
	if !root.isDir() {
		return nil, nil, corrupt("the root is not a directory")
	}
	root.parent = root
	return root, h, t.fill(root)
}

// fill reads the entries of a directory and of all directories below it.
func (t *treeReader) fill(root *node) error {
	for queue := []*node{root}; len(queue) > 0; {
		dir := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		subdirs, err := t.directory(dir)
		if err != nil {
			return err
		}
		queue = append(queue, subdirs...)
	}
	return nil
}

// at reads n bytes at an offset of the image.
func (t *treeReader) at(offset uint64, n int) ([]byte, error) {
	if end := offset + uint64(n); end < offset || end > uint64(t.header.Size()) {
		return nil, corrupt("%d bytes at offset %d of an image of %d bytes", n, offset, t.header.Size())
	}
	if t.budget -= int64(n); t.budget < 0 {
		return nil, corrupt("more than %d bytes of metadata", int64(maxMetadata))
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(t.r, int64(offset), int64(n)), b); err != nil {
		return nil, fmt.Errorf("EROFS metadata at offset %d: %w", offset, err)
	}
	return b, nil
}

// inode reads an inode, with its attributes and a link's target but without a directory's entries.
func (t *treeReader) inode(nid uint64) (*node, error) {
	if n, ok := t.nodes[nid]; ok {
		return n, nil
	}
	if nid > uint64(t.header.Size())/nidUnit {
		return nil, corrupt("inode %d lies behind the end", nid)
	}
	offset := t.header.MetaBlock*BlockSize + nid*nidUnit
	format, err := t.at(offset, 2)
	if err != nil {
		return nil, err
	}
	n := &node{place: place{nid: nid, extended: format[0]&formatExtended != 0}}
	b, err := t.at(offset, int(n.inodeSize()))
	if err != nil {
		return nil, err
	}
	d := decodeInode(b, n.extended, t.header)
	if err := t.take(n, d); err != nil {
		return nil, err
	}
	bodySize := 0
	if d.xattrCount > 0 {
		bodySize = xattrBodyHeaderSize + 4*(int(d.xattrCount)-1)
	}
	if err := t.xattrs(n, offset+n.inodeSize(), bodySize); err != nil {
		return nil, err
	}
	n.tail = int(n.inodeSize()) + bodySize // where an inline tail would be, until directory has read it
	if n.fileType() == modeSymlink {
		err = t.target(n)
	}
	if err != nil {
		return nil, err
	}
	t.nodes[nid] = n
	return n, t.memory.takeContent(n)
}

// decodeInode takes an on-disk inode apart.
func decodeInode(b []byte, extended bool, h *Header) diskInode {
	le := binary.LittleEndian
	d := diskInode{
		layout:     le.Uint16(b) >> formatLayoutShift,
		xattrCount: le.Uint16(b[2:]),
		mode:       le.Uint16(b[4:]),
		union:      le.Uint32(b[16:]),
	}
	if extended {
		d.size, d.uid, d.gid = le.Uint64(b[8:]), le.Uint32(b[24:]), le.Uint32(b[28:])
		d.mtime, d.mtimeNsec, d.nlink = int64(le.Uint64(b[32:])), le.Uint32(b[40:]), le.Uint32(b[44:])
		return d
	}
	d.nlink, d.size = uint32(le.Uint16(b[6:])), uint64(le.Uint32(b[8:]))
	d.uid, d.gid = uint32(le.Uint16(b[24:])), uint32(le.Uint16(b[26:]))
	d.mtime, d.mtimeNsec = h.BuildTime, h.BuildTimeNsec
	return d
}

// take checks what an inode says and makes it the node's.
func (t *treeReader) take(n *node, d diskInode) error {
	n.mode, n.uid, n.gid, n.mtime, n.mtimeNsec = d.mode, d.uid, d.gid, d.mtime, d.mtimeNsec
	n.size, n.inline = d.size, d.layout == layoutFlatInline
	if d.layout != layoutFlatPlain && d.layout != layoutFlatInline {
		return corrupt("inode %d has data layout %d", n.nid, d.layout)
	}
	if d.mtimeNsec >= 1e9 {
		return corrupt("inode %d has a time of %d ns in a second", n.nid, d.mtimeNsec)
	}
	switch n.fileType() {
	case modeRegular:
		n.block = d.union
		blocks := (n.size + BlockSize - 1) / BlockSize
		if n.inline || n.size > 1<<60 || n.size > 0 && (n.block == 0 || uint64(n.block)+blocks > t.header.MetaBlock) {
			return corrupt("file of %d bytes at block %d (inode %d)", n.size, n.block, n.nid)
		}
	case modeDirectory, modeSymlink:
		n.block = d.union
	case modeCharDev, modeBlockDev:
		n.rdev = d.union
	case modeFIFO:
	default:
		return corrupt("inode %d has mode %o", n.nid, n.mode)
	}
	return nil
}

// xattrs reads the attributes behind an inode.
func (t *treeReader) xattrs(n *node, offset uint64, size int) error {
	if size == 0 {
		return nil
	}
	b, err := t.at(offset, size)
	if err != nil {
		return err
	}
	if b[4] != 0 {
		return corrupt("inode %d has shared attributes", n.nid)
	}
	for b = b[xattrBodyHeaderSize:]; len(b) >= xattrEntrySize; {
		nameLen, valueLen := int(b[0]), int(binary.LittleEndian.Uint16(b[2:]))
		end := xattrEntrySize + nameLen + valueLen
		if end > len(b) {
			return corrupt("attribute of %d bytes in %d (inode %d)", end, len(b), n.nid)
		}
		name := b[xattrEntrySize:][:nameLen]
		n.setXattr(xattr{index: b[1], name: string(name), value: string(b[xattrEntrySize+nameLen : end])})
		b = b[min((end+3)&^3, len(b)):]
	}
	return nil
}

// data reads the content of a directory or a link, block by block.
func (t *treeReader) data(n *node, block uint64) ([]byte, error) {
	whole := n.size / BlockSize
	size := min(n.size-block*BlockSize, BlockSize)
	if n.inline && block == whole {
		return t.at(t.header.MetaBlock*BlockSize+n.nid*nidUnit+uint64(n.tail), int(size))
	}
	return t.at((uint64(n.block)+block)*BlockSize, int(size))
}

func (t *treeReader) target(n *node) error {
	if n.size == 0 || n.size > maxPath {
		return corrupt("link target of %d bytes (inode %d)", n.size, n.nid)
	}
	b, err := t.data(n, 0)
	n.target = string(b)
	if err == nil && strings.IndexByte(n.target, 0) >= 0 {
		return corrupt("link target with a NUL byte (inode %d)", n.nid)
	}
	return err
}

// directory reads a directory's entries and returns those that are directories.
func (t *treeReader) directory(dir *node) (subdirs []*node, err error) {
	dir.children = map[string]*node{}
	for block := uint64(0); block*BlockSize < dir.size; block++ {
		b, err := t.data(dir, block)
		if err != nil {
			return nil, err
		}
		err = t.direntBlock(dir, b, func(name string, child *node) error {
			if child.isDir() {
				if child.parent != nil || child == dir {
					return corrupt("directory %q is in two places", name)
				}
				child.parent, child.depth = dir, dir.depth+1
				if child.depth > maxDepth {
					return errDepth
				}
				subdirs = append(subdirs, child)
			}
			dir.children[name] = child
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return subdirs, nil
}

// direntBlock yields the entries of a block of a directory, all but "." and "..".
func (t *treeReader) direntBlock(dir *node, b []byte, yield func(string, *node) error) error {
	le := binary.LittleEndian
	if len(b) < direntSize {
		return corrupt("directory block of %d bytes (inode %d)", len(b), dir.nid)
	}
	first := int(le.Uint16(b[8:]))
	count := first / direntSize
	if count == 0 || first%direntSize != 0 || first > len(b) {
		return corrupt("first name at byte %d of a directory block (inode %d)", first, dir.nid)
	}
	for i := range count {
		entry := b[i*direntSize:]
		start, end := int(le.Uint16(entry[8:])), len(b)
		if i+1 < count {
			end = int(le.Uint16(entry[direntSize+8:]))
		}
		if start < first || end < start || end > len(b) {
			return corrupt("name from byte %d to %d of a directory block (inode %d)", start, end, dir.nid)
		}
		name, _, _ := strings.Cut(string(b[start:end]), "\x00") // the block's last name ends with zeros, or with the block
		if name == "." || name == ".." {
			continue
		}
		if name == "" || len(name) > maxName || strings.Contains(name, "/") || dir.children[name] != nil {
			return corrupt("name %s in a directory (inode %d)", quote(name), dir.nid)
		}
		if t.entries++; t.entries > uint64(t.header.Size())/direntSize {
			return corrupt("more directory entries than fit")
		}
		child, err := t.inode(le.Uint64(entry))
		if err == nil {
			err = t.memory.takeName(name, child)
		}
		if err != nil {
			return err
		}
		if err := yield(name, child); err != nil {
			return err
		}
	}
	return nil
}
