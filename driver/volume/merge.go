package volume

import (
	"context"
	"fmt"
	"io"
	"os"

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
	var stats *MergeStats
	all := &verity.Leaves{} // the layers' digests are in memory as it is
	d, err := mergeVolumes(out, readers, all, func(leaves *verity.Leaves, extents []erofs.Extent) (err error) {
		stats, err = takeExtents(ctx, out, sources, extents, leaves)
		return err
	})
	return d, stats, err
}

// extentTaker puts data of layers where a merged image has it, and its digests into leaves.
type extentTaker func(leaves *verity.Leaves, extents []erofs.Extent) error

// mergeVolumes writes the volume with the union of the images in layers to out, all but the file data, which is take's,
// and describes it. leaves is empty.
func mergeVolumes(out io.WriterAt, layers []io.ReaderAt, leaves *verity.Leaves, take extentTaker) (*Description, error) {
	merged, err := erofs.Merge(layers)
	if err != nil {
		return nil, err
	}
	w := imageWriter{out: out, leaves: leaves, block: blockSize}
	head, err := w.head()
	if err != nil {
		return nil, err
	}
	if err := take(leaves, merged.Extents); err != nil {
		return nil, err
	}
	img, end, err := w.writeMetadata(int64(merged.Blocks)*blockSize, merged.WriteMetadata)
	if err != nil {
		return nil, err
	}
	if err := w.finish(img, end, head); err != nil {
		return nil, err
	}
	return describe(out, LayoutAligned, img, end, leaves)
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
	if info.Layout != LayoutAligned {
		return fmt.Errorf("layout %s: only volumes of layout %s can be merged", info.Layout, LayoutAligned)
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
		if err := copyRange(ctx, out, src.file, e); err != nil {
			return nil, fmt.Errorf("copy %d blocks of %s: %w", e.Blocks, src.file.Name(), err)
		}
		stats.CopiedBytes += size
	}
	return stats, nil
}

// copyRange copies an extent. Holes stay holes: they are not even read.
func copyRange(ctx context.Context, out, in *os.File, e erofs.Extent) error {
	buf := make([]byte, chunkSize)
	shift := (int64(e.To) - int64(e.From)) * blockSize
	pos, end := int64(e.From)*blockSize, int64(e.From+e.Blocks)*blockSize
	for pos < end {
		start, stop, err := nextData(in, pos, end)
		if err != nil {
			return err
		}
		for pos = start; pos < stop; {
			if err := ctx.Err(); err != nil {
				return err // an extent may be a whole layer
			}
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
