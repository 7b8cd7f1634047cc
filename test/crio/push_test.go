package crio_test

import (
	"runtime"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// push stores an image in the registry and returns its reference.
func push(t *testing.T, image images.Image) string {
	t.Helper()
	ref, err := image.Push(t.Context(), must[string](t)(env.Cache()), registry.Address)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// pushLarge stores an image whose pull takes a while: the Debian image without its last two layers, which are small in a
// registry, but of whose sparse files containers/storage computes checksums hole by hole (tar-split), 10 GiB of them.
func pushLarge(t *testing.T) string {
	t.Helper()
	full := must[v1.Image](t)(images.Debian.Build(t.Context(), must[string](t)(env.Cache())))
	layers := must[[]v1.Layer](t)(full.Layers())
	config := must[*v1.ConfigFile](t)(full.ConfigFile()).Config
	return pushImage(t, "large", newImage(t, config, layers[:len(layers)-2]...))
}

// newImage makes an image for this machine.
func newImage(t *testing.T, config v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img = must[v1.Image](t)(mutate.AppendLayers(img, layers...))
	file := must[*v1.ConfigFile](t)(img.ConfigFile()).DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", runtime.GOARCH, config
	return must[v1.Image](t)(mutate.ConfigFile(img, file))
}

// pushImage stores an image in a repository of the registry and returns its reference.
func pushImage(t *testing.T, repository string, img v1.Image) string {
	t.Helper()
	tag := must[name.Tag](t)(name.NewTag(registry.Address+"/"+repository+":1", name.Insecure))
	if err := remote.Write(tag, img, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	return tag.String()
}
