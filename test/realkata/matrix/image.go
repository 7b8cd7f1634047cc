package matrix

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
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
	return pushImage(ctx, base, registry, image.Name+"-flat")
}

// pushDeep puts an image with so many layers into the registry: those of the given one, and on top of them layers with
// a file /deep/NUMBER each.
func pushDeep(ctx context.Context, image images.Image, cache, registry string, layers int) (string, error) {
	img, err := image.Build(ctx, cache)
	if err != nil {
		return "", err
	}
	below, err := img.Layers()
	if err != nil {
		return "", err
	}
	var more []v1.Layer
	for i := len(below); i < layers; i++ {
		layer, err := fileLayer(fmt.Sprintf("deep/%d", i+1), fmt.Sprintf("layer %d\n", i+1))
		if err != nil {
			return "", err
		}
		more = append(more, layer)
	}
	if img, err = mutate.AppendLayers(img, more...); err != nil {
		return "", fmt.Errorf("deepen image %s: %w", image.Name, err)
	}
	return pushImage(ctx, img, registry, image.Name+"-deep")
}

// fileLayer makes a layer of one file.
func fileLayer(name, content string) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	header := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}
	if err := w.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(w, content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
}

func pushImage(ctx context.Context, img v1.Image, registry, repository string) (string, error) {
	ref, err := name.ParseReference(fmt.Sprintf("%s/%s:1", registry, repository), name.Insecure)
	if err != nil {
		return "", err
	}
	if err := remote.Write(ref, img, remote.WithContext(ctx)); err != nil {
		return "", fmt.Errorf("push image %s: %w", ref, err)
	}
	return ref.Name(), nil
}
