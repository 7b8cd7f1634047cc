package gptdisk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	// SectorSize is the unit of the disk.
	SectorSize = 512

	// MaxPartitions is what the table has room for (gpt_disk.rs, MAX_GPT_PARTITIONS).
	MaxPartitions = 128

	// HeadSectors is the size of the head; the first partition follows it (FIRST_PARTITION_LBA).
	HeadSectors = 2048

	// alignment of a partition's start, in sectors: 1 MiB (ALIGNMENT_LBA).
	alignment = 2048

	// entriesSectors is the size of a partition entry array (ENTRIES_SECTORS).
	entriesSectors = MaxPartitions * entrySize / SectorSize

	// maxNameLength is what an entry has room for, in characters.
	maxNameLength = 36
)

// Partition is one file's place on the disk.
type Partition struct {
	Path    string
	Name    string
	Number  int // from 1
	Start   uint64
	Sectors uint64
}

// End is the partition's last sector.
func (p *Partition) End() uint64 { return p.Start + p.Sectors - 1 }

// Layout is a disk.
type Layout struct {
	Partitions []Partition
}

// Sectors is the size of the disk. It ends with the last partition: there is no backup table, the disk being neither
// lasting nor writable (gpt_disk.rs, generate_gpt_metadata).
func (l *Layout) Sectors() uint64 { return l.Partitions[len(l.Partitions)-1].End() + 1 }

// NewLayout places files in the given order (gpt_disk.rs, calculate_gpt_layout). Symbolic links are followed; what
// they lead to has to be a regular file that is not empty.
func NewLayout(paths []string) (*Layout, error) {
	if len(paths) == 0 {
		return nil, errors.New("no EROFS layers provided for GPT layout")
	}
	if len(paths) > MaxPartitions {
		return nil, fmt.Errorf("the layers for GPT: %d exceeds maximum %d partitions", len(paths), MaxPartitions)
	}
	l := &Layout{}
	next := uint64(HeadSectors)
	for i, path := range paths {
		fi, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("EROFS layer path not accessible: %w", err)
		}
		if !fi.Mode().IsRegular() {
			return nil, fmt.Errorf("EROFS layer path is not a regular file: %s", path)
		}
		if fi.Size() == 0 {
			return nil, fmt.Errorf("EROFS layer %d (%s) is empty, cannot generate GPT partition", i, path)
		}
		p := Partition{
			Path: path, Name: partitionName(i, path), Number: i + 1, Start: next, Sectors: sectors(fi.Size()),
		}
		l.Partitions = append(l.Partitions, p)
		next = alignUp(p.End() + 1)
	}
	return l, nil
}

// partitionName has the directory that the file is in, under containerd the snapshot's number.
func partitionName(index int, path string) string {
	name := []rune(fmt.Sprintf("erofs-%d-s%s", index, filepath.Base(filepath.Dir(path))))
	return string(name[:min(len(name), maxNameLength)])
}

// sectors rounds up: the rest of a last sector reads as zeros.
func sectors(size int64) uint64 { return (uint64(size) + SectorSize - 1) / SectorSize }

func alignUp(lba uint64) uint64 { return (lba + alignment - 1) / alignment * alignment }
