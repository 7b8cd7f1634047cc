// Package imagecopy copies an image from one of containers/image's transports to another as it is. containers/image's own
// package copy would need a signature policy and, without build tags, gpgme.
package imagecopy

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containers/image/v5/image"
	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/pkg/blobinfocache/none"
	"github.com/containers/image/v5/types"
)

// Copy copies the image that from is of, which is not a list, to to. sys is for both.
func Copy(ctx context.Context, to, from types.ImageReference, sys *types.SystemContext) (err error) {
	src, err := from.NewImageSource(ctx, sys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dest, err := to.NewImageDestination(ctx, sys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dest.Close()) }()
	unparsed := image.UnparsedInstance(src, nil)
	blob, mediaType, err := unparsed.Manifest(ctx)
	if err != nil {
		return err
	}
	m, err := manifest.FromBlob(blob, mediaType)
	if err != nil {
		return err
	}
	for _, l := range m.LayerInfos() {
		if err := copyBlob(ctx, dest, src, l.BlobInfo, false); err != nil {
			return fmt.Errorf("layer %s: %w", l.Digest, err)
		}
	}
	if err := copyBlob(ctx, dest, src, m.ConfigInfo(), true); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if err := dest.PutManifest(ctx, blob, nil); err != nil {
		return err
	}
	return dest.Commit(ctx, unparsed)
}

func copyBlob(ctx context.Context, dest types.ImageDestination, src types.ImageSource, info types.BlobInfo, config bool) error {
	r, size, err := src.GetBlob(ctx, info, none.NoCache)
	if err != nil {
		return err
	}
	info.Size = size
	_, err = dest.PutBlob(ctx, struct{ io.Reader }{r}, info, none.NoCache, config)
	return errors.Join(err, r.Close())
}
