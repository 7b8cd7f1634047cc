package disks

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
)

// copyChunk is how much is copied before anybody looks whether to stop.
const copyChunk = 16 << 20

// writeDisk writes a disk's segments to a file. Zeros become holes, and where the file system can, files share their
// blocks (copy_file_range).
func writeDisk(ctx context.Context, out *os.File, segments []segment, p *output.Progress) error {
	var at int64
	for _, s := range segments {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := out.Seek(at, io.SeekStart); err != nil {
			return err
		}
		switch {
		case s.data != nil:
			if _, err := out.Write(s.data); err != nil {
				return err
			}
		case s.path != "":
			if err := copyFile(ctx, out, s.path, s.sectors, p); err != nil {
				return err
			}
		}
		at += s.sectors * sectorSize
	}
	return out.Truncate(at)
}

// copyFile appends a file of which the size, rounded up to sectors, is known.
func copyFile(ctx context.Context, out *os.File, path string, sectors int64, p *output.Progress) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	var copied int64
	for {
		n, err := io.CopyN(out, in, copyChunk)
		copied += n
		p.Add(n)
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", path, err)
		}
	}
	if sectorsOf(copied) != sectors {
		return fmt.Errorf("%s has %d bytes and had %d sectors before: it changed meanwhile", path, copied, sectors)
	}
	return nil
}

func sectorsOf(size int64) int64 { return (size + sectorSize - 1) / sectorSize }

// maxExtent is how many sectors an extent of type twoGbMaxExtentFlat has at most: 2 GiB.
const maxExtent = 2 << 30 / sectorSize

// descriptor returns a VMDK descriptor of the segments ("Virtual Disk Format 5.0", VMware), as Kata's runtime-rs writes
// them (4.1.0, device/driver/virtio_blk_modern.rs). Files stay where they are; tables is the file, beside the descriptor,
// that gets all bytes, and behind them the zeros that stand for all gaps: QEMU knows no extents of type ZERO
// (block/vmdk.c, vmdk_parse_extents).
func descriptor(segments []segment, tables string) (text string, bytes []byte, err error) {
	var b strings.Builder
	var sectors int64
	if name := filepath.Base(tables); strings.ContainsAny(name, "\"\n") {
		return "", nil, fmt.Errorf("%q: a VMDK descriptor cannot name this file", name)
	}
	for _, s := range segments {
		bytes = append(bytes, s.data...)
	}
	zeros, next := int64(len(bytes)/sectorSize), int64(0)
	for _, s := range segments {
		switch {
		case s.data != nil:
			writeExtents(&b, filepath.Base(tables), next, s.sectors)
			next += s.sectors
		case s.path == "":
			for left := s.sectors; left > 0; left -= alignment {
				writeExtents(&b, filepath.Base(tables), zeros, min(left, alignment))
			}
		case strings.ContainsAny(s.path, "\"\n"):
			return "", nil, fmt.Errorf("%q: a VMDK descriptor cannot name this path", s.path)
		default:
			writeExtents(&b, s.path, 0, s.sectors)
		}
		sectors += s.sectors
	}
	bytes = append(bytes, make([]byte, alignment*sectorSize)...)
	const heads, perTrack = 16, 63
	return "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n\n" +
		"# Extent description\n" + b.String() + "\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\n" +
		fmt.Sprintf("ddb.geometry.cylinders = \"%d\"\n", sectors/heads/perTrack) +
		fmt.Sprintf("ddb.geometry.heads = \"%d\"\nddb.geometry.sectors = \"%d\"\nddb.adapterType = \"ide\"\n", heads, perTrack), bytes, nil
}

// writeExtents writes lines for a part of a file.
func writeExtents(b *strings.Builder, path string, offset, sectors int64) {
	for end := offset + sectors; offset < end; offset += maxExtent {
		fmt.Fprintf(b, "RW %d FLAT \"%s\" %d\n", min(maxExtent, end-offset), path, offset)
	}
}
