package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/erofs"
	"github.com/crio-erofs/crio-erofs/driver/verity"
)

// Layer is one of the volumes that Merge puts together.
type Layer struct {
	File     *os.File
	RootHash string // empty: the one that the volume's own superblock vouches for
}

// MergeStats says where the bytes of file data in a merged volume are.
type MergeStats struct {
	SharedBytes int64 // blocks that the volume shares with the layers' files
	CopiedBytes int64
}

// Merge writes a volume with the union of layers, the lowest first, to out, which must be empty. File data is shared
// with the layers' files by FICLONERANGE where the file system can, and copied elsewhere. The layers' data is not read
// again to be hashed: the tree is made of their leaves. What is read, trees and metadata, is checked against the
// layers' root hashes. It does not sync out.
func Merge(ctx context.Context, out *os.File, layers []Layer) (*Description, *MergeStats, error) {
	sources := make([]source, len(layers))
	readers := make([]io.ReaderAt, len(layers))
	for i, l := range layers {
		if err := sources[i].open(ctx, l); err != nil {
			return nil, nil, fmt.Errorf("layer %s: %w", l.File.Name(), err)
		}
		readers[i] = verity.NewReader(l.File, blockSize, sources[i].digests)
	}
	merged, err := erofs.Merge(readers)
	if err != nil {
		return nil, nil, err
	}
	leaves := &verity.Leaves{} // the layers' digests are in memory as it is
	head, err := leaves.Grow(1)
	if err != nil {
		return nil, nil, err
	}
	stats, err := takeExtents(ctx, out, sources, merged.Extents, leaves)
	if err != nil {
		return nil, nil, err
	}
	s := newSink(out, int64(merged.Blocks)*blockSize, leaves, blockSize)
	img, err := merged.WriteMetadata(s)
	size, closeErr := s.close()
	if err = errors.Join(err, closeErr); err != nil {
		return nil, nil, err
	}
	if _, err := out.WriteAt(img.Head[:], 0); err != nil {
		return nil, nil, fmt.Errorf("volume: EROFS superblock: %w", err)
	}
	verity.Digests(head.Digests, img.Head[:], blockSize)
	d := &Description{Layout: LayoutAligned, FormatVersion: erofs.FormatVersion}
	if d.Verity, err = writeVerity(out, uint64(size), blockSize, leaves); err != nil {
		return nil, nil, err
	}
	d.Size = int64(d.Verity.TreeOffset + verity.TreeSize(d.Verity.DataBlocks))
	return d, stats, nil
}

// source is a layer that is open for merging.
type source struct {
	file    *os.File
	digests []byte // of all its data blocks
}

func (s *source) open(ctx context.Context, l Layer) error {
	fi, err := l.File.Stat()
	if err != nil {
		return err
	}
	info, err := Inspect(l.File, fi.Size())
	if err != nil {
		return err
	}
	if info.Verity == nil {
		return fmt.Errorf("%w: a merged volume's tree is made of those of its layers; build the layer with one", ErrNoVerity)
	}
	root := info.root
	if l.RootHash == "" {
		err = info.checkUUID(root)
	} else {
		root, err = verity.ParseRoot(l.RootHash)
	}
	if err != nil {
		return err
	}
	s.file = l.File
	s.digests, err = verity.ReadDigests(ctx, l.File, info.params, root)
	return err
}

// takeExtents puts the layers' data where the merged image has it, and their leaves into leaves.
func takeExtents(ctx context.Context, out *os.File, sources []source, extents []erofs.Extent, leaves *verity.Leaves) (*MergeStats, error) {
	stats := &MergeStats{}
	share := true
	for _, e := range extents {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		src := &sources[e.Layer]
		if err := leaves.Append(src.digests[e.From*verity.DigestSize : (e.From+e.Blocks)*verity.DigestSize]); err != nil {
			return nil, err
		}
		size := int64(e.Blocks) * blockSize
		if share {
			err := cloneRange(out, src.file, e)
			if err == nil {
				stats.SharedBytes += size
				continue
			}
			if !cannotClone(err) {
				return nil, fmt.Errorf("share %d blocks of %s: %w", e.Blocks, src.file.Name(), err)
			}
			share = false
		}
		if err := copyRange(out, src.file, e); err != nil {
			return nil, fmt.Errorf("copy %d blocks of %s: %w", e.Blocks, src.file.Name(), err)
		}
		stats.CopiedBytes += size
	}
	return stats, nil
}

func cloneRange(out, in *os.File, e erofs.Extent) error {
	return unix.IoctlFileCloneRange(int(out.Fd()), &unix.FileCloneRange{
		Src_fd:      int64(in.Fd()),
		Src_offset:  e.From * blockSize,
		Src_length:  e.Blocks * blockSize,
		Dest_offset: e.To * blockSize,
	})
}

// cannotClone says whether an error of FICLONERANGE means that these files cannot share blocks (ioctl_ficlonerange(2)).
func cannotClone(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY)
}

// copyRange copies an extent. Holes stay holes: they are not even read.
func copyRange(out, in *os.File, e erofs.Extent) error {
	buf := make([]byte, chunkSize)
	shift := (int64(e.To) - int64(e.From)) * blockSize
	pos, end := int64(e.From)*blockSize, int64(e.From+e.Blocks)*blockSize
	for pos < end {
		start, stop, err := nextData(in, pos, end)
		if err != nil {
			return err
		}
		for pos = start; pos < stop; {
			n := min(stop-pos, chunkSize)
			if _, err := io.ReadFull(io.NewSectionReader(in, pos, n), buf[:n]); err != nil {
				return err
			}
			if err := writeSparse(out, buf[:n], pos+shift); err != nil {
				return err
			}
			pos += n
		}
	}
	return nil
}

// nextData returns where the next data of a file are between from and end: both are end if there are none.
func nextData(f *os.File, from, end int64) (start, stop int64, err error) {
	start, err = unix.Seek(int(f.Fd()), from, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) || err == nil && start >= end {
		return end, end, nil
	}
	if err != nil {
		return from, end, nil // a file system that cannot tell: all is data
	}
	stop, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: seek: %w", f.Name(), err)
	}
	return start, min(stop, end), nil
}
