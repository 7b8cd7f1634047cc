package matrix

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// derived are the images that are made of images.Small.
var derived = map[string]func(v1.Image) (v1.Image, error){
	"small-flat": flatten,
	"small-deep": func(img v1.Image) (v1.Image, error) { return deepen(img, kata.MaxRootfsVolumes) },
	"small-cut":  cut,
}

// Prepare makes the images that Run needs and are not in the cache yet. It need not be called, but emulated CPUs take
// minutes for it.
func Prepare(ctx context.Context) error {
	for _, image := range []images.Image{images.Pause, images.Small} {
		cache, err := env.Cache()
		if err != nil {
			return err
		}
		if _, err := image.Build(ctx, cache); err != nil {
			return err
		}
	}
	for name := range derived {
		if _, err := derive(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// derive returns a derived image, out of the cache if it is there.
func derive(ctx context.Context, name string) (v1.Image, error) {
	cache, err := env.Cache()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "realkata", name+"-of-"+images.Small.Version)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := writeDerived(ctx, name, cache, dir); err != nil {
			return nil, fmt.Errorf("make image %s: %w", name, err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("image cache %s: %w: remove it", dir, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("image cache %s does not hold one image (%v): remove it", dir, err)
	}
	return index.Image(manifest.Manifests[0].Digest)
}

// writeDerived makes a derived image as an OCI layout, which gets its name when it is complete.
func writeDerived(ctx context.Context, name, cache, dir string) error {
	small, err := images.Small.Build(ctx, cache)
	if err != nil {
		return err
	}
	img, err := derived[name](small)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), ".making-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	path, err := layout.Write(filepath.Join(work, "layout"), empty.Index)
	if err != nil {
		return err
	}
	if err := path.AppendImage(img); err != nil {
		return err
	}
	return os.Rename(string(path), dir)
}

// flatten makes an image with the same files in a single layer.
func flatten(img v1.Image) (v1.Image, error) {
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return mutate.Extract(img), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	return assemble(config, layer)
}

// cut makes an image of all layers but the topmost one.
func cut(img v1.Image) (v1.Image, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	return assemble(config, layers[:len(layers)-1]...)
}

// assemble makes an image of layers, with another image's configuration.
func assemble(config *v1.ConfigFile, layers ...v1.Layer) (v1.Image, error) {
	own := config.DeepCopy()
	own.RootFS.DiffIDs, own.History = nil, nil
	base, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.OCIManifestSchema1), own)
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(mutate.ConfigMediaType(base, types.OCIConfigJSON), layers...)
}

// deepen puts layers with a file /deep/NUMBER each on top of an image until it has so many.
func deepen(img v1.Image, layers int) (v1.Image, error) {
	below, err := img.Layers()
	if err != nil {
		return nil, err
	}
	var more []v1.Layer
	for i := len(below) + 1; i <= layers; i++ {
		layer, err := fileLayer(fmt.Sprintf("deep/%d", i), fmt.Sprintf("layer %d\n", i))
		if err != nil {
			return nil, err
		}
		more = append(more, layer)
	}
	return mutate.AppendLayers(img, more...)
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

// pushDerived puts a derived image into the registry.
func pushDerived(ctx context.Context, repository, registry string) (string, error) {
	img, err := derive(ctx, repository)
	if err != nil {
		return "", err
	}
	ref, err := name.ParseReference(fmt.Sprintf("%s/%s:1", registry, repository), name.Insecure)
	if err != nil {
		return "", err
	}
	if err := remote.Write(ref, img, remote.WithContext(ctx)); err != nil {
		return "", fmt.Errorf("push image %s: %w", ref, err)
	}
	return ref.Name(), nil
}
