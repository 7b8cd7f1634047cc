package erofs

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"strconv"
)

// Stats counts what a layer had.
type Stats struct {
	Entries       int64 // of the tar
	Inodes        int64 // of the image
	Bytes         int64 // sum of the sizes of all that is no directory, as stat(2) has them; hard links count once
	SkippedXattrs int64 // attributes that an image does not keep, see docs/format.md
	Root          bool  // the tar has an entry for the root directory; without, its attributes are made up
}

// Image describes an image that was written, all but its first block, which is known last.
type Image struct {
	Head          [BlockSize]byte // belongs before everything that was written
	Blocks        uint64          // the head included; of 4096 bytes, or of TarfsBlockSize
	FormatVersion int
	Stats         Stats
}

// Aligned is an image of the aligned layout in the making: file data is written, the metadata is not.
type Aligned struct {
	data   *alignedData
	reader *layerReader
}

// ReadAligned reads a layer's uncompressed tar to the end of its archive and writes its file data to w, which comes
// behind the image's first block. What it writes is a multiple of BlockSize. On an error, what was written is of no use.
func ReadAligned(w DataWriter, layer io.Reader) (*Aligned, error) {
	return readAligned(w, layer, newHash())
}

// readAligned is ReadAligned with a hash to find equal files by, which the image does not depend on.
func readAligned(w DataWriter, layer io.Reader, hash func([]byte) uint64) (*Aligned, error) {
	l := &layerReader{tree: newTree()}
	data := &alignedData{w: w, blocks: 1, memory: &l.tree.memory, hash: hash, small: map[uint64]smallFile{},
		tiny: map[uint32]string{}}
	l.data = data
	if err := l.readLayer(layer); err != nil {
		return nil, err
	}
	return &Aligned{data: data, reader: l}, nil
}

// WriteMetadata writes what follows the file data to w, a multiple of BlockSize, and returns the image.
func (a *Aligned) WriteMetadata(w io.Writer) (*Image, error) {
	return a.reader.writeMetadata(w, a.data.blocks, blockBits, FormatVersion)
}

// writeMetadata writes the metadata of the layer that was read.
func (l *layerReader) writeMetadata(w io.Writer, blocks uint64, bits uint8, version int) (*Image, error) {
	img, err := writeMetadata(w, l.tree.root, blocks, bits, version)
	if err != nil {
		return nil, err
	}
	l.stats.Inodes, l.stats.Bytes = img.Stats.Inodes, img.Stats.Bytes
	img.Stats = l.stats
	return img, nil
}

// writeMetadata writes the metadata of the tree below root, behind the blocks, of 2^bits bytes, that file data takes.
// version is the format's.
func writeMetadata(w io.Writer, root *node, blocks uint64, bits uint8, version int) (*Image, error) {
	plan := plan(root, blocks, bits)
	if plan.metaBlock > maxBlocks {
		return nil, fmt.Errorf("layer is larger than the %d TiB that an image of this layout can have", 1<<bits>>8)
	}
	m := newMetadataWriter(w, plan)
	for _, n := range plan.nodes {
		m.ownBlocks(n)
	}
	m.zeros(int(plan.gap))
	m.inodes()
	uuid, err := m.finish()
	if err != nil {
		return nil, fmt.Errorf("image metadata: %w", err)
	}
	img := &Image{
		Blocks:        plan.metaBlock + (plan.metaSize+BlockSize-1)&^(BlockSize-1)>>bits,
		FormatVersion: version,
		Stats:         Stats{Inodes: int64(len(plan.nodes))},
	}
	for _, n := range plan.nodes {
		if !n.isDir() {
			img.Stats.Bytes += int64(n.size)
		}
	}
	img.Head = head(plan, img, uuid)
	return img, nil
}

// head returns the first 4096 bytes.
func head(plan *layout, img *Image, uuid [16]byte) (b [BlockSize]byte) {
	sb := superblock{
		featureCompat: compatMtime,
		rootNid:       uint16(plan.nodes[0].nid),
		inodes:        uint64(len(plan.nodes)),
		epoch:         uint64(plan.epoch.sec),
		epochNsec:     plan.epoch.nsec,
		bits:          plan.bits,
		blocks:        uint32(img.Blocks),
		metaBlkAddr:   uint32(plan.metaBlock),
		uuid:          uuid,
	}
	copy(sb.label[:], labelPrefix+strconv.Itoa(img.FormatVersion))
	// With blocks of 512 bytes there is no checksum: fsck.erofs 1.8 crashes on one.
	if plan.bits == blockBits {
		sb.featureCompat |= compatChecksum
		sb.appendTo(b[:superStart])
		sb.checksum = checksum(b[:])
	}
	sb.appendTo(b[:superStart])
	return b
}

// checksum returns the checksum of a block 0 whose checksum field is zero: crc32c from the superblock to the end of the
// block, without the final inversion (erofs_superblock_csum_verify in fs/erofs/super.c).
func checksum(block []byte) uint32 {
	return ^crc32.Checksum(block[superStart:], crc32.MakeTable(crc32.Castagnoli))
}

// metadataWriter writes directory blocks and inodes. Its error is sticky.
type metadataWriter struct {
	plan *layout
	out  *bufio.Writer
	sum  hash.Hash
	buf  []byte
	err  error
}

func newMetadataWriter(w io.Writer, plan *layout) *metadataWriter {
	sum := sha256.New()
	return &metadataWriter{plan: plan, out: bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10), sum: sum}
}

func (m *metadataWriter) write(b []byte) {
	if m.err == nil {
		_, m.err = m.out.Write(b)
	}
}

func (m *metadataWriter) zeros(n int) {
	if m.err == nil {
		m.err = writeZeros(m.out, n)
	}
}

// finish flushes and returns the image's UUID: a version 8 UUID (RFC 9562, section 5.8) of the metadata's sha256, since
// a random one would make every conversion differ.
func (m *metadataWriter) finish() (uuid [16]byte, err error) {
	if m.err != nil {
		return uuid, m.err
	}
	if err := m.out.Flush(); err != nil {
		return uuid, err
	}
	copy(uuid[:], m.sum.Sum(nil))
	uuid[6] = uuid[6]&0x0f | 0x80
	uuid[8] = uuid[8]&0x3f | 0x80
	return uuid, nil
}

// ownBlocks writes those blocks of a directory's entries or of a link's target that do not stand behind the inode.
func (m *metadataWriter) ownBlocks(n *node) {
	blocks := m.plan.ownBlocks(n)
	if blocks == 0 {
		return
	}
	if !n.isDir() {
		own := min(n.size, blocks<<m.plan.bits)
		m.write([]byte(n.target[:own]))
		m.zeros(int(blocks<<m.plan.bits - own))
		return
	}
	for names := range m.plan.directoryBlocks(n.names) {
		if blocks == 0 {
			return // the last one is inline
		}
		m.buf = n.appendDirents(m.buf[:0], names)
		m.write(m.buf)
		m.zeros(int(m.plan.blockSize()) - len(m.buf))
		blocks--
	}
}

// inodes writes all inodes with what stands behind them, and fills the last 4096 bytes.
func (m *metadataWriter) inodes() {
	var pos uint64
	for _, n := range m.plan.nodes {
		start := n.nid * nidUnit
		m.zeros(int(start - pos))
		m.buf = n.appendInode(m.buf[:0])
		m.buf = appendXattrs(m.buf, n.xattrs)
		if n.inline {
			m.buf = m.appendTail(m.buf, n)
		}
		m.write(m.buf)
		pos = start + uint64(len(m.buf))
	}
	m.zeros(int(-pos & (BlockSize - 1)))
}

func (n *node) appendInode(b []byte) []byte {
	d := diskInode{
		layout:     layoutFlatPlain,
		xattrCount: uint16(xattrCount(xattrBodySize(n.xattrs))),
		mode:       n.mode,
		nlink:      n.nlink,
		size:       n.size,
		union:      n.block,
		ino:        n.ino,
		uid:        n.uid,
		gid:        n.gid,
		mtime:      n.mtime,
		mtimeNsec:  n.mtimeNsec,
	}
	if n.inline {
		d.layout = layoutFlatInline
	}
	switch n.fileType() {
	case modeCharDev, modeBlockDev:
		d.union = n.rdev
	case modeFIFO:
		d.union = 0
	}
	if n.extended {
		return d.appendExtended(b)
	}
	return d.appendCompact(b)
}

// appendTail appends what stands behind the inode: a directory's last block, or the end of a link's target.
func (m *metadataWriter) appendTail(b []byte, n *node) []byte {
	if !n.isDir() {
		return append(b, n.target[len(n.target)-n.tail:]...)
	}
	var last []string
	for names := range m.plan.directoryBlocks(n.names) {
		last = names
	}
	return n.appendDirents(b, last)
}

// appendDirents appends one block of directory entries: first the entries, then their names (erofs_fs.h, struct
// erofs_dirent; the first nameoff tells how many entries there are).
func (n *node) appendDirents(b []byte, names []string) []byte {
	nameOff := len(names) * direntSize
	for _, name := range names {
		child := n.child(name)
		b = appendDirent(b, child.nid, nameOff, child.direntType())
		nameOff += len(name)
	}
	for _, name := range names {
		b = append(b, name...)
	}
	return b
}

func (n *node) direntType() uint8 {
	switch n.fileType() {
	case modeDirectory:
		return fileTypeDirectory
	case modeSymlink:
		return fileTypeSymlink
	case modeCharDev:
		return fileTypeCharDev
	case modeBlockDev:
		return fileTypeBlockDev
	case modeFIFO:
		return fileTypeFIFO
	}
	return fileTypeRegular
}

var zeroBlock [BlockSize]byte

func writeZeros(w io.Writer, n int) error {
	for n > 0 {
		k := min(n, BlockSize)
		if _, err := w.Write(zeroBlock[:k]); err != nil {
			return err
		}
		n -= k
	}
	return nil
}
