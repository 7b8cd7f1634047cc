package driver

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// copySparse makes out, which is empty, a copy of in: by sharing all blocks where the file system can, or else without
// in's holes.
func copySparse(out, in *os.File) error {
	if err := unix.IoctlFileClone(int(out.Fd()), int(in.Fd())); err == nil {
		return nil
	}
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	if err := out.Truncate(fi.Size()); err != nil {
		return err
	}
	for pos := int64(0); ; {
		start, err := unix.Seek(int(in.Fd()), pos, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole is left
		}
		if err != nil {
			return &fs.PathError{Op: "seek", Path: in.Name(), Err: err}
		}
		end, err := unix.Seek(int(in.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return &fs.PathError{Op: "seek", Path: in.Name(), Err: err}
		}
		if _, err := io.Copy(io.NewOffsetWriter(out, start), io.NewSectionReader(in, start, end-start)); err != nil {
			return err
		}
		pos = end
	}
}

// copyFile makes a copy of a file with its holes, and syncs it.
func copyFile(dst, src string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := copySparse(out, in); err != nil {
		return err
	}
	return out.Sync()
}

// allocated returns how much of a file is on the disk.
func allocated(path string) (int64, error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return 0, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return st.Blocks * 512, nil
}

// Of ext4's superblock, struct ext4_super_block in fs/ext4/ext4.h, which is at offset 1024.
const (
	ext4SuperOffset    = 1024
	ext4SuperSize      = 1024
	ext4MagicOffset    = 0x38
	ext4Magic          = 0xEF53
	ext4UUIDOffset     = 0x68
	ext4ChecksumOffset = 0x3FC
)

// renewUUID gives an ext4 with the feature metadata_csum_seed, in which no other checksum depends on it, a new random
// UUID. The copies of the superblock keep the old one; e2fsck does not mind.
func renewUUID(f *os.File) error {
	sb := make([]byte, ext4SuperSize)
	if _, err := f.ReadAt(sb, ext4SuperOffset); err != nil {
		return err
	}
	if magic := binary.LittleEndian.Uint16(sb[ext4MagicOffset:]); magic != ext4Magic {
		return fmt.Errorf("%s is not an ext4: magic number %#x", f.Name(), magic)
	}
	uuid := sb[ext4UUIDOffset : ext4UUIDOffset+16]
	_, _ = rand.Read(uuid)        // never fails
	uuid[6] = uuid[6]&0x0f | 0x40 // version 4,
	uuid[8] = uuid[8]&0x3f | 0x80 // of RFC 9562
	// ext4_superblock_csum in fs/ext4/super.c: crc32c from ~0 on, not inverted at the end as Go's is.
	sum := ^crc32.Checksum(sb[:ext4ChecksumOffset], crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(sb[ext4ChecksumOffset:], sum)
	_, err := f.WriteAt(sb, ext4SuperOffset)
	return err
}
