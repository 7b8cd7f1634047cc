package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ErrNotImage is returned by ReadHeader for what is not an EROFS image.
var ErrNotImage = errors.New("not an EROFS image")

// Header is what an image's superblock says, as far as this package needs it.
type Header struct {
	BlockSize     uint32 // in bytes
	Blocks        uint64
	Inodes        uint64
	RootNid       uint64
	MetaBlock     uint64
	BuildTime     int64 // seconds since 1970
	BuildTimeNsec uint32
	UUID          [16]byte
	Incompat      uint32 // EROFS_FEATURE_INCOMPAT_*
	Label         string // volume_name
	ChecksumOK    bool   // the superblock's checksum fits, or there is none
}

// FormatVersion returns the format version that an image of ours notes, or 0 if it is not one.
func (h *Header) FormatVersion() int {
	s, ok := strings.CutPrefix(h.Label, labelPrefix)
	if !ok {
		return 0
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < 0 {
		return 0
	}
	return v
}

// Size returns the size of the image in bytes: what follows it in the file is not EROFS's.
func (h *Header) Size() int64 { return int64(h.Blocks) * int64(h.BlockSize) }

// ReadHeader reads the superblock of an image. Whether its checksum fits is for the caller to judge.
func ReadHeader(r io.ReaderAt) (*Header, error) {
	b := make([]byte, BlockSize)
	n, err := r.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("EROFS superblock: %w", err)
	}
	if n < superStart+superSize {
		return nil, fmt.Errorf("%w: only %d bytes", ErrNotImage, n)
	}
	le, sb := binary.LittleEndian, b[superStart:]
	if magic := le.Uint32(sb); magic != superMagic {
		return nil, fmt.Errorf("%w: magic number %#x at byte %d, want %#x", ErrNotImage, magic, superStart, superMagic)
	}
	bits := sb[12]
	if bits < 9 || bits > 16 {
		return nil, fmt.Errorf("EROFS superblock: block size of 2^%d bytes; want 2^9 to 2^16", bits)
	}
	h := &Header{
		BlockSize:     1 << bits,
		RootNid:       uint64(le.Uint16(sb[14:])),
		Inodes:        le.Uint64(sb[16:]),
		BuildTime:     int64(le.Uint64(sb[24:])),
		BuildTimeNsec: le.Uint32(sb[32:]),
		Blocks:        uint64(le.Uint32(sb[36:])),
		MetaBlock:     uint64(le.Uint32(sb[40:])),
		UUID:          [16]byte(sb[48:]),
		Incompat:      le.Uint32(sb[80:]),
		Label:         strings.TrimRight(string(sb[64:80]), "\x00"),
		ChecksumOK:    true,
	}
	if le.Uint32(sb[8:])&compatChecksum != 0 && bits == blockBits && n == BlockSize {
		want := le.Uint32(sb[4:])
		le.PutUint32(sb[4:], 0)
		h.ChecksumOK = checksum(b) == want
	}
	return h, nil
}
