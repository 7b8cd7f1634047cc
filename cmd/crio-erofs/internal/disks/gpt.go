package disks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"unicode/utf16"
)

// Sizes of the UEFI specification 2.10, chapter 5, "GUID Partition Table (GPT) Disk Layout". alignment is Kata's (4.1.0,
// runtime-rs, kata-types gpt_disk.rs), in sectors.
const (
	sectorSize    = 512
	alignment     = 2048
	entryCount    = 128
	entrySize     = 128
	tableSectors  = entryCount * entrySize / sectorSize
	backupSectors = tableSectors + 1
	headerSize    = 92
	maxNameLen    = 36
)

// linuxFilesystem is the type of partitions with a Linux file system, 0FC63DAF-8483-4772-8E79-3D69D8477DE4.
var linuxFilesystem = [16]byte{0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4}

// partition is a partition and the file that is in it.
type partition struct {
	path    string
	name    string // label of the partition
	start   int64  // in sectors
	sectors int64
}

// table is a GPT. Equal partitions give an equal table.
type table struct {
	parts   []partition
	sectors int64 // of the whole disk
	guid    [16]byte
}

// newTable lays out files as partitions.
func newTable(parts []partition) (*table, error) {
	if len(parts) == 0 || len(parts) > entryCount {
		return nil, fmt.Errorf("%d volumes: a GPT disk has room for 1 to %d: export the image as one volume (--type raw)",
			len(parts), entryCount)
	}
	t := &table{parts: parts}
	at, identity := int64(alignment), sha256.New()
	for i := range parts {
		p := &t.parts[i]
		p.start = at
		at = alignUp(at + p.sectors)
		fmt.Fprintf(identity, "%s %d\n", p.name, p.sectors)
		if n := len(utf16.Encode([]rune(p.name))); n > maxNameLen {
			return nil, fmt.Errorf("partition label %q has %d characters, %d fit", p.name, n, maxNameLen)
		}
	}
	t.sectors = at + alignment // of which the last ones are the backup
	t.guid = guid(identity.Sum(nil))
	return t, nil
}

func alignUp(sector int64) int64 { return (sector + alignment - 1) / alignment * alignment }

// guid makes a random-looking GUID of a hash (RFC 9562, version 8; the first three fields are little-endian on disk).
func guid(hash []byte) (g [16]byte) {
	copy(g[:], hash)
	g[7], g[8] = g[7]&0x0f|0x80, g[8]&0x3f|0x80
	return g
}

// head returns the first alignment sectors: protective MBR, header and entries.
func (t *table) head() []byte {
	b := make([]byte, alignment*sectorSize)
	copy(b, t.protectiveMBR())
	entries := t.entries()
	copy(b[sectorSize:], t.header(1, t.sectors-1, 2, entries))
	copy(b[2*sectorSize:], entries)
	return b
}

// tail returns the last backupSectors sectors: entries and header again.
func (t *table) tail() []byte {
	entries := t.entries()
	return append(entries, t.header(t.sectors-1, 1, t.sectors-backupSectors, entries)...)
}

// protectiveMBR covers the disk with one partition, for who knows no GPT (5.2.3).
func (t *table) protectiveMBR() []byte {
	b := make([]byte, sectorSize)
	entry := b[446:]
	copy(entry, []byte{0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff, 0x01, 0x00, 0x00, 0x00})
	binary.LittleEndian.PutUint32(entry[12:], uint32(min(t.sectors-1, 0xffffffff)))
	b[510], b[511] = 0x55, 0xaa
	return b
}

// header returns the header's sector (5.3.2).
func (t *table) header(own, other, entriesAt int64, entries []byte) []byte {
	var b bytes.Buffer
	for _, v := range []any{
		[8]byte([]byte("EFI PART")), uint32(0x00010000), uint32(headerSize), uint32(0), uint32(0), uint64(own), uint64(other),
		uint64(2 + tableSectors), uint64(t.sectors - backupSectors - 1), t.guid, uint64(entriesAt), uint32(entryCount),
		uint32(entrySize), crc32.ChecksumIEEE(entries),
	} {
		_ = binary.Write(&b, binary.LittleEndian, v) // to memory, of fixed size: cannot fail
	}
	header := make([]byte, sectorSize)
	copy(header, b.Bytes())
	binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header[:headerSize]))
	return header
}

// entries returns the array of partitions (5.3.3).
func (t *table) entries() []byte {
	b := make([]byte, entryCount*entrySize)
	for i := range t.parts {
		p, entry := &t.parts[i], b[i*entrySize:]
		unique := sha256.Sum256(fmt.Appendf(nil, "%x %d", t.guid, i))
		id := guid(unique[:])
		copy(entry, linuxFilesystem[:])
		copy(entry[16:], id[:])
		binary.LittleEndian.PutUint64(entry[32:], uint64(p.start))
		binary.LittleEndian.PutUint64(entry[40:], uint64(p.start+p.sectors-1))
		for j, unit := range utf16.Encode([]rune(p.name)) {
			binary.LittleEndian.PutUint16(entry[56+2*j:], unit)
		}
	}
	return b
}

// segment is a part of a disk: bytes, a file, or zeros.
type segment struct {
	data    []byte
	path    string
	sectors int64
}

// segments returns the whole disk, from its first sector to its last.
func (t *table) segments() []segment {
	all := []segment{{data: t.head(), sectors: alignment}}
	at := int64(alignment)
	zeros := func(until int64) {
		if until > at {
			all = append(all, segment{sectors: until - at})
			at = until
		}
	}
	for i := range t.parts {
		p := &t.parts[i]
		zeros(p.start)
		all = append(all, segment{path: p.path, sectors: p.sectors})
		at += p.sectors
	}
	zeros(t.sectors - backupSectors)
	return append(all, segment{data: t.tail(), sectors: backupSectors})
}
