package volume

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/crio-erofs/crio-erofs/driver/erofs"
	"github.com/crio-erofs/crio-erofs/driver/verity"
)

// ErrNoVerity is returned by Verify for a volume that has no tree.
var ErrNoVerity = errors.New("the volume has no verity tree")

// ErrOtherVolume is returned by Verify for a volume whose top of the tree is sound, but not that of the root hash.
var ErrOtherVolume = errors.New("not the volume with this root hash")

// Info is what a volume file itself tells. The layer's diffID is not in it.
type Info struct {
	Layout        Layout
	FormatVersion int   // 0: not made by this project
	Size          int64 // of the file, in bytes
	Image         erofs.Header
	Tar           *erofs.TarInfo // of layout tarfs
	Verity        *Verity        // nil: no tree. The root hash is what the tree's top block gives.

	params verity.Params
	uuid   [16]byte
	root   [verity.DigestSize]byte
}

// Inspect reads the superblocks of a volume of size bytes and the top block of its tree. That the rest fits them, only
// Verify knows.
func Inspect(r io.ReaderAt, size int64) (*Info, error) {
	h, err := erofs.ReadHeader(r)
	if err != nil {
		return nil, err
	}
	info := &Info{Layout: LayoutAligned, FormatVersion: h.FormatVersion(), Size: size, Image: *h}
	if h.BlockSize == erofs.TarfsBlockSize {
		info.Layout = LayoutTarfs
		if info.Tar, err = erofs.ReadTarInfo(r, h); err != nil {
			return nil, err
		}
	}
	if h.Size() > size {
		return nil, fmt.Errorf("truncated: EROFS image of %d bytes in a file of %d", h.Size(), size)
	}
	info.params, info.uuid, err = verity.ReadSuperblock(r, hashOffset(h))
	switch {
	case errors.Is(err, verity.ErrNoSuperblock) && !h.ChecksumOK:
		return nil, errors.New("EROFS superblock at offset 1024 is corrupted: its checksum does not fit")
	case errors.Is(err, verity.ErrNoSuperblock):
		return info, nil
	case err != nil:
		return nil, err
	}
	if dataSize := info.params.DataBlocks * uint64(info.params.DataBlockSize); dataSize != uint64(h.Size()) {
		return nil, fmt.Errorf("verity superblock protects %d bytes, the EROFS image has %d", dataSize, h.Size())
	}
	if end := info.params.End(); end != uint64(size) {
		return nil, fmt.Errorf("the verity tree ends at %d, the file has %d bytes: truncated or grown", end, size)
	}
	if info.root, err = verity.ComputeRoot(r, info.params); err != nil {
		return nil, err
	}
	info.Verity = describeVerity(info.params, info.root)
	return info, nil
}

// hashOffset returns where the verity superblock of an image would be.
func hashOffset(h *erofs.Header) uint64 {
	return (uint64(h.Size()) + verity.HashBlockSize - 1) &^ (verity.HashBlockSize - 1)
}

// Verify reads a whole volume of size bytes and returns nil if all of it fits its root hash, which must be rootHash
// unless that is empty. A bad block is reported as a *verity.CorruptError.
func Verify(ctx context.Context, r io.ReaderAt, size int64, rootHash string, progress func(bytes int64)) (*Info, error) {
	info, err := Inspect(r, size)
	if err != nil {
		return nil, err
	}
	if info.Verity == nil {
		return info, ErrNoVerity
	}
	root := info.root
	if rootHash != "" {
		if root, err = verity.ParseRoot(rootHash); err != nil {
			return info, err
		}
		// The superblock's UUID is made of the root hash: a volume that vouches for another one is another volume.
		if root != info.root && info.checkUUID(info.root) == nil {
			return info, fmt.Errorf("%w: its own is %x, not %s", ErrOtherVolume, info.root, rootHash)
		}
	} else if err := info.checkUUID(root); err != nil {
		return info, err
	}
	if err := verity.Check(ctx, r, info.params, root, progress); err != nil {
		return info, err
	}
	if err := info.checkUUID(root); err != nil {
		return info, err
	}
	if !info.Image.ChecksumOK {
		return info, errors.New("EROFS superblock at offset 1024: its checksum does not fit")
	}
	return info, nil
}

// TarReader returns a reader of the tar in a volume of layout tarfs.
func (info *Info) TarReader(r io.ReaderAt) (*io.SectionReader, error) {
	if info.Tar == nil {
		return nil, fmt.Errorf("a volume of layout %s does not have the layer's tar; only %s has", info.Layout, LayoutTarfs)
	}
	return io.NewSectionReader(r, erofs.TarfsStart, info.Tar.Size), nil
}

// VerifyTar returns nil if the tar in a volume of layout tarfs has the digest that the volume says, which is the
// layer's diffID.
func (info *Info) VerifyTar(ctx context.Context, r io.ReaderAt) error {
	tar, err := info.TarReader(r)
	if err != nil {
		return err
	}
	sum := sha256.New()
	buf := make([]byte, chunkSize)
	for {
		n, err := tar.Read(buf)
		sum.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
	if got := [sha256.Size]byte(sum.Sum(nil)); got != info.Tar.SHA256 {
		return fmt.Errorf("the tar in the volume has sha256 %x, its head says %x", got, info.Tar.SHA256)
	}
	return nil
}

// checkUUID holds the superblock's UUID against a root hash. Without a root hash from elsewhere a tree's top block says
// nothing about itself; the UUID is what is left of the root hash that the volume was made with.
func (info *Info) checkUUID(root [verity.DigestSize]byte) error {
	if info.uuid == verity.UUID(root) {
		return nil
	}
	return fmt.Errorf("top block of the tree at offset %d gives root hash %x, but the superblock's UUID %x at offset %d is not "+
		"of it: one of them is damaged or of another volume, or another program made the volume",
		info.params.TreeOffset(), root, info.uuid, info.params.HashOffset)
}
