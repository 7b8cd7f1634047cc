// Package images builds the container images that tests and demo run: real ones, of Debian packages, packed with GNU
// tar into several layers. What was built is kept in a cache folder as an OCI layout; a registry gets it with Push.
package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// Image is the recipe of an image.
type Image struct {
	Name string // its repository in a registry; the tag is Version

	// Version is part of the cache's key: it changes with the recipe.
	Version string

	Config v1.Config

	// layers makes the content of the image, lowest layer first, in folders of work.
	layers func(ctx context.Context, work string) ([]layer, error)
}

// All lists the images in the order of their size.
func All() []Image {
	return []Image{Pause, Small, Debian}
}

// Reference returns the name under which Push stores the image in a registry.
func (i Image) Reference(registry string) string {
	return fmt.Sprintf("%s/%s:%s", registry, i.Name, i.Version)
}

// Build returns the image, made anew only if it is not in the cache. The cache may be shared by several processes: one
// makes the image, the others wait for it, and a finished image gets its name in one step.
func (i Image) Build(ctx context.Context, cache string) (v1.Image, error) {
	final := filepath.Join(cache, "images", i.Name+"-"+i.Version)
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return nil, fmt.Errorf("build image %s: %w", i.Name, err)
	}
	lock, err := os.OpenFile(final+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("build image %s: %w", i.Name, err)
	}
	defer lock.Close() // and with it the lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("build image %s: lock %s: %w", i.Name, lock.Name(), err)
	}
	if img, err := open(final); !errors.Is(err, os.ErrNotExist) {
		return img, err
	}
	work, err := os.MkdirTemp(filepath.Dir(final), ".making-"+i.Name+"-")
	if err != nil {
		return nil, fmt.Errorf("build image %s: %w", i.Name, err)
	}
	defer os.RemoveAll(work)

	logrus.Infof("building image %s", i.Name)
	made := filepath.Join(work, "layout")
	if err := i.write(ctx, work, made); err != nil {
		return nil, fmt.Errorf("build image %s: %w", i.Name, err)
	}
	if err := os.Rename(made, final); err != nil {
		return nil, fmt.Errorf("build image %s: %w", i.Name, err)
	}
	return open(final)
}

// write makes the image and stores it as an OCI layout in the folder to.
func (i Image) write(ctx context.Context, work, to string) error {
	layers, err := i.layers(ctx, work)
	if err != nil {
		return err
	}
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	for _, l := range layers {
		packed, err := l.pack(ctx, work)
		if err != nil {
			return fmt.Errorf("layer %s: %w", l.name, err)
		}
		if img, err = mutate.Append(img, mutate.Addendum{
			Layer:   packed,
			History: v1.History{CreatedBy: "crio-erofs test layer " + l.name},
		}); err != nil {
			return fmt.Errorf("layer %s: %w", l.name, err)
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", architecture(), i.Config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return err
	}
	path, err := layout.Write(to, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendImage(img)
}

// open returns the only image of an OCI layout. The error matches os.ErrNotExist if there is no such layout.
func open(dir string) (v1.Image, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("image cache %s: %w: remove it", dir, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("image cache %s: %w: remove it", dir, err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("image cache %s holds %d images, not one: remove it", dir, len(manifest.Manifests))
	}
	return index.Image(manifest.Manifests[0].Digest)
}

// Push builds the image if need be and stores it in the registry at host:port. It returns the image's reference there.
func (i Image) Push(ctx context.Context, cache, registry string) (string, error) {
	img, err := i.Build(ctx, cache)
	if err != nil {
		return "", err
	}
	ref, err := name.ParseReference(i.Reference(registry), name.Insecure)
	if err != nil {
		return "", fmt.Errorf("push image %s: %w", i.Name, err)
	}
	if err := remote.Write(ref, img, remote.WithContext(ctx)); err != nil {
		return "", fmt.Errorf("push image %s: %w", i.Name, err)
	}
	return ref.Name(), nil
}
