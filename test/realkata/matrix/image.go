package matrix

import (
	"context"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/crio-erofs/crio-erofs/test/images"
)

// pushFlat puts an image with the same files in a single layer into the registry.
func pushFlat(ctx context.Context, image images.Image, cache, registry string) (string, error) {
	img, err := image.Build(ctx, cache)
	if err != nil {
		return "", err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return mutate.Extract(img), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return "", fmt.Errorf("flatten image %s: %w", image.Name, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return "", err
	}
	flat := config.DeepCopy()
	flat.RootFS.DiffIDs, flat.History = nil, nil
	base, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.OCIManifestSchema1), flat)
	if err != nil {
		return "", err
	}
	if base, err = mutate.AppendLayers(mutate.ConfigMediaType(base, types.OCIConfigJSON), layer); err != nil {
		return "", fmt.Errorf("flatten image %s: %w", image.Name, err)
	}
	ref, err := name.ParseReference(fmt.Sprintf("%s/%s-flat:1", registry, image.Name), name.Insecure)
	if err != nil {
		return "", err
	}
	if err := remote.Write(ref, base, remote.WithContext(ctx)); err != nil {
		return "", fmt.Errorf("push image %s: %w", ref, err)
	}
	return ref.Name(), nil
}
