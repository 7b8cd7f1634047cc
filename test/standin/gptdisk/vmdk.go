package gptdisk

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxExtentSectors is 2 GiB, the longest extent of this kind of VMDK (virtio_blk_modern.rs, MAX_VMDK_EXTENT_SECTORS).
const maxExtentSectors = 0x80000000 / SectorSize

// Names of the files that Write makes, as in erofs_rootfs.rs and gpt_disk.rs.
const (
	headName       = "gpt_meta_head.img"
	descriptorName = "merged_fs.vmdk"
)

// extent is a piece of a file on the disk.
type extent struct {
	path    string
	sectors uint64
	offset  uint64
}

// Write makes the head, the padding and the descriptor in dir and returns the descriptor's path. The padding files
// are sparse, the partitions' own files are only named.
func (l *Layout) Write(dir string) (string, error) {
	head := filepath.Join(dir, headName)
	if err := os.WriteFile(head, l.Head(), 0o600); err != nil {
		return "", err
	}
	extents := []extent{{head, HeadSectors, 0}}
	next := uint64(HeadSectors)
	for i := range l.Partitions {
		p := &l.Partitions[i]
		if gap := p.Start - next; gap > 0 {
			pad := filepath.Join(dir, fmt.Sprintf("pad-%d.img", i))
			if err := writePadding(pad, gap); err != nil {
				return "", err
			}
			extents = append(extents, extent{pad, gap, 0})
		}
		extents = appendChunks(extents, p.Path, p.Sectors)
		next = p.End() + 1
	}
	return writeDescriptor(dir, extents)
}

// Concatenate makes a descriptor of a disk that is the files one after the other (erofs_rootfs.rs,
// create_vmdk_config). Empty files are left out.
func Concatenate(dir string, paths []string) (string, error) {
	var extents []extent
	for _, path := range paths {
		fi, err := os.Stat(path)
		if err != nil {
			return "", fmt.Errorf("EROFS device path not accessible: %w", err)
		}
		if !fi.Mode().IsRegular() {
			return "", fmt.Errorf("EROFS device path is not a regular file: %s", path)
		}
		extents = appendChunks(extents, path, sectors(fi.Size()))
	}
	if len(extents) == 0 {
		return "", fmt.Errorf("no valid EROFS files to create VMDK layout (all files are empty)")
	}
	return writeDescriptor(dir, extents)
}

func appendChunks(extents []extent, path string, sectors uint64) []extent {
	for offset := uint64(0); offset < sectors; offset += maxExtentSectors {
		extents = append(extents, extent{path, min(sectors-offset, maxExtentSectors), offset})
	}
	return extents
}

func writePadding(path string, sectors uint64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := f.Truncate(int64(sectors * SectorSize)); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func writeDescriptor(dir string, extents []extent) (string, error) {
	text, err := descriptor(extents)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, descriptorName)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// descriptor is the text of render_vmdk_descriptor. The geometry is for guests older than LBA.
func descriptor(extents []extent) (string, error) {
	var b strings.Builder
	b.WriteString("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n" +
		"createType=\"twoGbMaxExtentFlat\"\n\n# Extent description\n")
	var total uint64
	for _, e := range extents {
		// The format has no way to write these; QEMU reads a path up to the next quotation mark.
		if strings.ContainsAny(e.path, "\"\n") {
			return "", fmt.Errorf("path %q cannot be written in a VMDK descriptor", e.path)
		}
		fmt.Fprintf(&b, "RW %d FLAT \"%s\" %d\n", e.sectors, e.path, e.offset)
		total += e.sectors
	}
	const heads, perTrack = 16, 63
	fmt.Fprintf(&b, "\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"%d\"\n"+
		"ddb.geometry.heads = \"%d\"\nddb.geometry.sectors = \"%d\"\nddb.adapterType = \"ide\"\n",
		(total+heads*perTrack-1)/(heads*perTrack), heads, perTrack)
	return b.String(), nil
}
