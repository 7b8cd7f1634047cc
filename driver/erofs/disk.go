package erofs

import "encoding/binary"

// On-disk constants of Linux's fs/erofs/erofs_fs.h.
const (
	// BlockSize is the size of an image's blocks, in bytes.
	BlockSize  = 1 << blockBits
	blockBits  = 12
	superStart = 1024       // EROFS_SUPER_OFFSET
	superMagic = 0xE0F5E1E2 // EROFS_SUPER_MAGIC_V1
	superSize  = 128        // struct erofs_super_block

	compatChecksum = 0x1 // EROFS_FEATURE_COMPAT_SB_CHKSUM
	compatMtime    = 0x2 // EROFS_FEATURE_COMPAT_MTIME: inode times are modification times

	nidUnit             = 32 // EROFS_ISLOTBITS: an inode's nid counts slots of 32 bytes from the start of the metadata
	compactInodeSize    = 32 // struct erofs_inode_compact
	extendedInodeSize   = 64 // struct erofs_inode_extended
	formatExtended      = 1  // bit 0 of i_format (EROFS_I_VERSION_BIT)
	formatLayoutShift   = 1  // EROFS_I_DATALAYOUT_BIT
	layoutFlatPlain     = 0  // EROFS_INODE_FLAT_PLAIN
	layoutFlatInline    = 2  // EROFS_INODE_FLAT_INLINE
	direntSize          = 12 // struct erofs_dirent
	xattrBodyHeaderSize = 12 // struct erofs_xattr_ibody_header
	xattrEntrySize      = 4  // struct erofs_xattr_entry
	nullBlock           = 0xFFFFFFFF
)

// Types of directory entries (EROFS_FT_*, equal to the kernel's FT_* of fs_types.h).
const (
	fileTypeRegular   = 1
	fileTypeDirectory = 2
	fileTypeCharDev   = 3
	fileTypeBlockDev  = 4
	fileTypeFIFO      = 5
	fileTypeSymlink   = 7
)

// superblock holds the fields of struct erofs_super_block that are not zero in our images.
type superblock struct {
	checksum      uint32
	bits          uint8 // blkszbits
	featureCompat uint32
	rootNid       uint16
	inodes        uint64
	epoch         uint64 // build_time/epoch: seconds; the mtime of compact inodes
	epochNsec     uint32
	blocks        uint32
	metaBlkAddr   uint32
	uuid          [16]byte
	label         [16]byte // volume_name
}

// appendTo appends the 128 bytes of struct erofs_super_block to b.
func (s *superblock) appendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, superMagic)
	b = le.AppendUint32(b, s.checksum)
	b = le.AppendUint32(b, s.featureCompat)
	b = append(b, s.bits, 0) // sb_extslots
	b = le.AppendUint16(b, s.rootNid)
	b = le.AppendUint64(b, s.inodes)
	b = le.AppendUint64(b, s.epoch)
	b = le.AppendUint32(b, s.epochNsec)
	b = le.AppendUint32(b, s.blocks)
	b = le.AppendUint32(b, s.metaBlkAddr)
	b = le.AppendUint32(b, 0) // xattr_blkaddr: no shared xattrs
	b = append(b, s.uuid[:]...)
	b = append(b, s.label[:]...)
	return append(b, make([]byte, 48)...) // feature_incompat and all that it would announce
}

// diskInode holds what an on-disk inode says.
type diskInode struct {
	layout     uint16
	xattrCount uint16
	mode       uint16
	nlink      uint32
	size       uint64
	union      uint32 // i_u: start block, or device number
	ino        uint32
	uid, gid   uint32
	mtime      int64
	mtimeNsec  uint32
}

// appendCompact appends a struct erofs_inode_compact.
func (i *diskInode) appendCompact(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint16(b, i.layout<<formatLayoutShift)
	b = le.AppendUint16(b, i.xattrCount)
	b = le.AppendUint16(b, i.mode)
	b = le.AppendUint16(b, uint16(i.nlink))
	b = le.AppendUint32(b, uint32(i.size))
	b = le.AppendUint32(b, 0) // i_reserved (i_mtime since 6.15: seconds after the epoch)
	b = le.AppendUint32(b, i.union)
	b = le.AppendUint32(b, i.ino)
	b = le.AppendUint16(b, uint16(i.uid))
	b = le.AppendUint16(b, uint16(i.gid))
	return le.AppendUint32(b, 0)
}

// appendExtended appends a struct erofs_inode_extended.
func (i *diskInode) appendExtended(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint16(b, i.layout<<formatLayoutShift|formatExtended)
	b = le.AppendUint16(b, i.xattrCount)
	b = le.AppendUint16(b, i.mode)
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, i.size)
	b = le.AppendUint32(b, i.union)
	b = le.AppendUint32(b, i.ino)
	b = le.AppendUint32(b, i.uid)
	b = le.AppendUint32(b, i.gid)
	b = le.AppendUint64(b, uint64(i.mtime))
	b = le.AppendUint32(b, i.mtimeNsec)
	b = le.AppendUint32(b, i.nlink)
	return append(b, make([]byte, 16)...)
}

// appendDirent appends a struct erofs_dirent.
func appendDirent(b []byte, nid uint64, nameOff int, fileType uint8) []byte {
	b = binary.LittleEndian.AppendUint64(b, nid)
	b = binary.LittleEndian.AppendUint16(b, uint16(nameOff))
	return append(b, fileType, 0)
}

// encodeDev returns a device number in the form of the kernel's new_encode_dev (include/linux/kdev_t.h).
func encodeDev(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | minor&^0xff<<12
}
