package powercut

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// The record's format (drivers/md/dm-log-writes.c, struct log_write_super and log_write_entry).
const (
	magic   = 0x6a736677736872
	version = 1

	flagFlush   = 1 << 0
	flagFUA     = 1 << 1
	flagDiscard = 1 << 2
)

// Arguments are those for QEMU to have a disk whose writes are recorded in the file log, which has to exist.
func Arguments(disk, log, serial string) []string {
	const options = "driver=blklogwrites,node-name=%[1]s,file=%[1]s-base,log=%[1]s-log,log-super-update-interval=1"
	return []string{
		"-blockdev", fmt.Sprintf("driver=file,node-name=%s-base,filename=%s", serial, escape(disk)),
		"-blockdev", fmt.Sprintf("driver=file,node-name=%s-log,filename=%s", serial, escape(log)),
		"-blockdev", fmt.Sprintf(options, serial),
		"-device", fmt.Sprintf("virtio-blk-pci,drive=%[1]s,serial=%[1]s", serial),
	}
}

func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// Entry is a write or a flush.
type Entry struct {
	Offset int64 // on the disk
	Size   int64
	Flush  bool // what was written before is on the disk
	FUA    bool // so is this
	Zero   bool // a discard: whatever is read afterwards, it is not what was there
	data   int64
}

// Log is the record of a disk.
type Log struct {
	Entries []Entry
	file    string
}

// ReadLog reads a record.
func ReadLog(path string) (*Log, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var super struct {
		Magic, Version, Entries uint64
		SectorSize              uint32
	}
	if err := binary.Read(f, binary.LittleEndian, &super); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if super.Magic != magic || super.Version != version || super.SectorSize == 0 {
		return nil, fmt.Errorf("%s: not a record of writes: %+v", path, super)
	}
	log, sector := &Log{file: path}, int64(super.SectorSize)
	for pos := sector; uint64(len(log.Entries)) < super.Entries; {
		var e struct{ Sector, Sectors, Flags, Length uint64 }
		if err := binary.Read(io.NewSectionReader(f, pos, 32), binary.LittleEndian, &e); err != nil {
			return nil, fmt.Errorf("%s: entry %d: %w", path, len(log.Entries), err)
		}
		pos += sector
		entry := Entry{
			Offset: int64(e.Sector) * sector, Size: int64(e.Sectors) * sector, data: pos,
			Flush: e.Flags&flagFlush != 0, FUA: e.Flags&flagFUA != 0, Zero: e.Flags&flagDiscard != 0,
		}
		if !entry.Zero {
			pos += entry.Size
		}
		log.Entries = append(log.Entries, entry)
	}
	return log, nil
}

// read returns what an entry wrote.
func (l *Log) read(e *Entry) ([]byte, error) {
	data := make([]byte, e.Size)
	if e.Zero {
		return data, nil
	}
	f, err := os.Open(l.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.ReadAt(data, e.data); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data, nil
}

// Mark is a line of text that was written behind the file system.
type Mark struct {
	Entry int
	Text  string
}

// Marks returns the lines that were written at start or behind it, in the order of their writing.
func (l *Log) Marks(start int64) []Mark {
	var marks []Mark
	for i := range l.Entries {
		e := &l.Entries[i]
		if e.Offset < start || e.Size == 0 || e.Zero {
			continue
		}
		data, err := l.read(e)
		if err != nil {
			continue // Cut will say so
		}
		if line, _, ok := bytes.Cut(data, []byte("\n")); ok {
			marks = append(marks, Mark{Entry: i, Text: string(line)})
		}
	}
	return marks
}
