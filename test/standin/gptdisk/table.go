package gptdisk

import (
	"crypto/rand"
	"encoding/binary"
	"hash/crc32"
	"unicode/utf16"
)

// Sizes of the on-disk structures (UEFI Specification 2.10, sections 5.2 and 5.3).
const (
	headerSize = 92
	entrySize  = 128
)

// guid is in the mixed-endian byte order of the table.
type guid [16]byte

// linuxFilesystem is the type 0FC63DAF-8483-4772-8E79-3D69D8477DE4, partition_types::LINUX_FS of Rust's gpt crate.
var linuxFilesystem = guid{
	0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
}

// newGUID returns a random one. Nobody refers to a partition or disk by it.
func newGUID() guid {
	var g guid
	rand.Read(g[:])
	g[7] = g[7]&0x0f | 0x40 // version 4
	g[8] = g[8]&0x3f | 0x80
	return g
}

// header is struct EFI_PARTITION_TABLE_HEADER; "alternate" and "last usable" are as gpt_disk.rs's
// patch_primary_gpt_header leaves them.
type header struct {
	Signature      [8]byte
	Revision       uint32
	Size           uint32
	CRC            uint32
	Reserved       uint32
	MyLBA          uint64
	AlternateLBA   uint64
	FirstUsableLBA uint64
	LastUsableLBA  uint64
	DiskGUID       guid
	EntriesLBA     uint64
	Entries        uint32
	EntrySize      uint32
	EntriesCRC     uint32
}

// entry is struct EFI_PARTITION_ENTRY.
type entry struct {
	Type       guid
	ID         guid
	Start      uint64
	End        uint64
	Attributes uint64
	Name       [maxNameLength]uint16
}

// mbrPartition is an entry of the protective MBR.
type mbrPartition struct {
	Status   uint8
	FirstCHS [3]byte
	Type     uint8
	LastCHS  [3]byte
	FirstLBA uint32
	Sectors  uint32
}

// Head returns the first HeadSectors sectors of the disk.
func (l *Layout) Head() []byte {
	head := make([]byte, HeadSectors*SectorSize)
	l.putMBR(head[:SectorSize])
	entries := l.entries()
	h := header{
		Signature: [8]byte([]byte("EFI PART")), Revision: 0x00010000, Size: headerSize, MyLBA: 1,
		// Beyond the end of the disk: the kernel finds no backup there and takes the primary
		// (linux block/partitions/efi.c, find_valid_gpt).
		AlternateLBA:   l.Sectors(),
		FirstUsableLBA: 2 + entriesSectors, LastUsableLBA: l.Sectors() - 1,
		DiskGUID: newGUID(), EntriesLBA: 2, Entries: MaxPartitions, EntrySize: entrySize,
		EntriesCRC: crc32.ChecksumIEEE(entries),
	}
	b := encode(&h)
	binary.LittleEndian.PutUint32(b[16:], crc32.ChecksumIEEE(b)) // the field was zero, as the sum wants it
	copy(head[SectorSize:], b)
	copy(head[2*SectorSize:], entries)
	return head
}

func (l *Layout) entries() []byte {
	b := make([]byte, 0, MaxPartitions*entrySize)
	for i := range l.Partitions {
		p := &l.Partitions[i]
		e := entry{Type: linuxFilesystem, ID: newGUID(), Start: p.Start, End: p.End()}
		copy(e.Name[:], utf16.Encode([]rune(p.Name)))
		b = append(b, encode(&e)...)
	}
	return b[:cap(b)]
}

// putMBR writes the protective MBR: one partition of type 0xEE over the disk. As in gpt_disk.rs, its size still counts
// the backup table that the disk then goes without.
func (l *Layout) putMBR(sector []byte) {
	size := alignUp(l.Sectors()) + entriesSectors
	if size > 0xffffffff {
		size = 0xffffffff
	}
	p := encode(&mbrPartition{
		FirstCHS: [3]byte{0x00, 0x02, 0x00}, Type: 0xee, LastCHS: [3]byte{0xff, 0xff, 0xff}, FirstLBA: 1,
		Sectors: uint32(size),
	})
	copy(sector[446:], p)
	sector[510], sector[511] = 0x55, 0xaa
}

// encode cannot fail: all fields have a fixed size.
func encode(v any) []byte {
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		panic(err)
	}
	return b
}
