package verity

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Params says how a volume is protected. Offsets are in bytes from the start of the file.
type Params struct {
	DataBlockSize uint32
	DataBlocks    uint64
	HashOffset    uint64 // of the superblock
}

// TreeOffset returns where the tree starts: behind the superblock, which takes a whole hash block.
func (p Params) TreeOffset() uint64 { return p.HashOffset + HashBlockSize }

// End returns the size of the volume: where the tree ends.
func (p Params) End() uint64 { return p.TreeOffset() + TreeSize(p.DataBlocks) }

// check returns an error unless the parameters describe a volume that this package could have written.
func (p Params) check() error {
	const maxBlocks = 1 << 40 // 4 PiB: keeps all sums below far from 64 bits
	switch {
	case p.DataBlockSize != 4096 && p.DataBlockSize != 512:
		return fmt.Errorf("data block size %d; want 4096 or 512", p.DataBlockSize)
	case p.DataBlocks == 0 || p.DataBlocks > maxBlocks:
		return fmt.Errorf("%d data blocks", p.DataBlocks)
	case p.HashOffset%HashBlockSize != 0 || p.HashOffset < p.DataBlocks*uint64(p.DataBlockSize) || p.HashOffset > 1<<60:
		return fmt.Errorf("hash offset %d does not lie behind %d data blocks of %d bytes, on a multiple of %d",
			p.HashOffset, p.DataBlocks, p.DataBlockSize, HashBlockSize)
	}
	return nil
}

// UUID returns the superblock's UUID for a root hash: its first 16 bytes, marked as a version 8 UUID (RFC 9562,
// section 5.8). A volume's bytes then depend on nothing but its content, and a superblock that was put before another
// tree is found out.
func UUID(root [DigestSize]byte) (uuid [16]byte) {
	copy(uuid[:], root[:])
	uuid[6] = uuid[6]&0x0f | 0x80
	uuid[8] = uuid[8]&0x3f | 0x80
	return uuid
}

// Offsets and values in the superblock (struct verity_sb of cryptsetup's lib/verity/verity.c), all of it little-endian.
const (
	superblockSize      = 512
	signature           = "verity\x00\x00"
	offsetVersion       = 8
	offsetHashType      = 12
	offsetUUID          = 16
	offsetAlgorithm     = 32
	offsetDataBlockSize = 64
	offsetHashBlockSize = 68
	offsetDataBlocks    = 72
	offsetSaltSize      = 80

	superblockVersion = 1
	hashType          = 1 // 0 is Chromium OS's
	algorithm         = "sha256"
	algorithmSize     = 32
)

// WriteSuperblock writes the superblock for a tree with this root hash, and the zeros up to the tree, to w.
func WriteSuperblock(w io.WriterAt, p Params, root [DigestSize]byte) error {
	if err := p.check(); err != nil {
		return fmt.Errorf("verity superblock: %w", err)
	}
	if _, err := w.WriteAt(encodeSuperblock(p, UUID(root)), int64(p.HashOffset)); err != nil {
		return fmt.Errorf("verity superblock: %w", err)
	}
	return nil
}

// encodeSuperblock returns the hash block with the superblock.
func encodeSuperblock(p Params, uuid [16]byte) []byte {
	b, le := make([]byte, HashBlockSize), binary.LittleEndian
	copy(b, signature)
	le.PutUint32(b[offsetVersion:], superblockVersion)
	le.PutUint32(b[offsetHashType:], hashType)
	copy(b[offsetUUID:], uuid[:])
	copy(b[offsetAlgorithm:], algorithm)
	le.PutUint32(b[offsetDataBlockSize:], p.DataBlockSize)
	le.PutUint32(b[offsetHashBlockSize:], HashBlockSize)
	le.PutUint64(b[offsetDataBlocks:], p.DataBlocks)
	return b
}

// ErrNoSuperblock is returned by ReadSuperblock where there is none: the volume has no tree.
var ErrNoSuperblock = errors.New("no verity superblock")

// ReadSuperblock reads the superblock at hashOffset. It accepts only what WriteSuperblock writes, up to the last byte of
// its hash block: no hash covers it.
func ReadSuperblock(r io.ReaderAt, hashOffset uint64) (p Params, uuid [16]byte, err error) {
	b := make([]byte, HashBlockSize)
	if hashOffset > 1<<60 {
		return p, uuid, fmt.Errorf("verity superblock at offset %d: beyond any file", hashOffset)
	}
	n, err := r.ReadAt(b, int64(hashOffset))
	if err != nil && !errors.Is(err, io.EOF) {
		return p, uuid, fmt.Errorf("verity superblock at offset %d: %w", hashOffset, err)
	}
	if n < superblockSize || string(b[:len(signature)]) != signature {
		return p, uuid, fmt.Errorf("%w at offset %d", ErrNoSuperblock, hashOffset)
	}
	p, err = decodeSuperblock(b)
	p.HashOffset = hashOffset
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return p, uuid, fmt.Errorf("verity superblock at offset %d: %w", hashOffset, err)
	}
	uuid = [16]byte(b[offsetUUID:])
	for i, want := range encodeSuperblock(p, uuid) {
		if b[i] != want {
			return p, uuid, fmt.Errorf("verity superblock at offset %d: byte %d is %#x, want %#x", hashOffset, i, b[i], want)
		}
	}
	return p, uuid, nil
}

// decodeSuperblock returns what a superblock says, if it is one for trees of this package.
func decodeSuperblock(b []byte) (Params, error) {
	le := binary.LittleEndian
	name := strings.TrimRight(string(b[offsetAlgorithm:][:algorithmSize]), "\x00")
	version, typ := le.Uint32(b[offsetVersion:]), le.Uint32(b[offsetHashType:])
	salt, hashBlock := le.Uint16(b[offsetSaltSize:]), le.Uint32(b[offsetHashBlockSize:])
	if version != superblockVersion || typ != hashType || name != algorithm || salt != 0 || hashBlock != HashBlockSize {
		return Params{}, fmt.Errorf("version %d, hash type %d, algorithm %q, salt of %d bytes, hash block size %d; "+
			"want %d, %d, %s, 0, %d", version, typ, name, salt, hashBlock, superblockVersion, hashType, algorithm, HashBlockSize)
	}
	return Params{DataBlockSize: le.Uint32(b[offsetDataBlockSize:]), DataBlocks: le.Uint64(b[offsetDataBlocks:])}, nil
}

// ParseRoot decodes a root hash of 64 hex digits.
func ParseRoot(s string) (root [DigestSize]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != DigestSize {
		return root, fmt.Errorf("root hash %q is not %d hex digits", s, 2*DigestSize)
	}
	copy(root[:], b)
	return root, nil
}
