package measure

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// VerifyTarfs returns the root hash of a volume of layout tarfs, if the volume is what the layer with this diffID
// becomes: its tar has that digest, and everything else in it, which decides what is seen of the tar, is what follows
// from the tar.
//
// So a guest can check a volume of which nobody has told it the root hash, with nothing but the image's configuration,
// of which it knows the digest. The host must not be able to change the volume afterwards: r is to be a dm-verity device
// or the like over it, opened with whatever root hash the host says, and the one returned here must be that.
func VerifyTarfs(ctx context.Context, r io.ReaderAt, size int64, diffID string) (rootHash string, err error) {
	info, err := volume.Inspect(r, size)
	if err != nil {
		return "", err
	}
	tar, err := info.TarReader(r)
	if err != nil {
		return "", err
	}
	d, kept, err := volume.Measure(contextReader{ctx, tar}, volume.BuildOptions{Layout: volume.LayoutTarfs}, "")
	if err != nil {
		return "", fmt.Errorf("the tar in the volume: %w", err)
	}
	if err := kept.Close(); err != nil {
		return "", err
	}
	if d.DiffID != diffID {
		return "", fmt.Errorf("the tar in the volume has digest %s, the layer's is %s", d.DiffID, diffID)
	}
	if info.FormatVersion != d.FormatVersion {
		return "", fmt.Errorf("the volume has format version %d; only %d can be checked here", info.FormatVersion, d.FormatVersion)
	}
	if info.Verity == nil {
		return "", volume.ErrNoVerity
	}
	if info.Verity.RootHash != d.Verity.RootHash {
		return "", fmt.Errorf("the volume has root hash %s, and of its tar follows %s: its metadata are not the tar's",
			info.Verity.RootHash, d.Verity.RootHash)
	}
	// The root hash that the top block of the tree has is not yet that of the data.
	if _, err := volume.Verify(ctx, r, size, d.Verity.RootHash, nil); err != nil {
		return "", err
	}
	if *info.Verity != *d.Verity || size != d.Size {
		return "", errors.New("the volume's superblock is not what follows from its tar")
	}
	return d.Verity.RootHash, nil
}
