package docs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containers/storage"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// node is what pages have in common: a CRI-O with images and a container.
type node struct {
	crio      *crio.Server
	registry  namedRegistry
	container string
}

// startNode starts a registry and CRI-O, pulls the images that the documentation speaks of, and runs a container.
func startNode(t *testing.T) node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	registry, err := env.StartRegistry(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(registry.Stop)
	cache, err := env.Cache()
	if err != nil {
		t.Fatal(err)
	}
	pause, err := images.Pause.Push(ctx, cache, registry.Address)
	if err != nil {
		t.Fatal(err)
	}
	small, err := images.Small.Push(ctx, cache, registry.Address)
	if err != nil {
		t.Fatal(err)
	}
	pushExample(t, registry.Address+"/app:1")
	dir, err := os.MkdirTemp("", "docs-")
	if err != nil {
		t.Fatal(err)
	}
	server, err := crio.Start(ctx, crio.Options{
		Dir: dir, Registry: registry.Address, PauseImage: pause,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, ref := range []string{registry.Address + "/app:1", small} {
		if _, err := server.PullImage(ctx, ref); err != nil {
			t.Fatal(err)
		}
		rename(t, server, ref, exampleRegistry+strings.TrimPrefix(ref, registry.Address))
	}
	pod, err := server.RunPod(ctx, crio.PodOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := pod.CreateContainer(ctx, crio.ContainerOptions{Image: exampleRegistry + strings.TrimPrefix(small, registry.Address), Command: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	return node{crio: server, registry: nameRegistry(t, registry.Address), container: c.ID}
}

// rename gives an image in the store the name that the documentation has for it: only the pages' shells know the registry by
// that name.
func rename(t *testing.T, server *crio.Server, ref, name string) {
	t.Helper()
	store, err := storage.GetStore(storage.StoreOptions{
		GraphRoot: server.GraphRoot(), RunRoot: filepath.Join(server.Dir(), "runroot"), GraphDriverName: driver.Name,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Free()
	image, err := store.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.SetNames(image.ID, []string{name}); err != nil {
		t.Fatal(err)
	}
}

// environment is for the shells of pages: what setup.sh needs, and CONTAINER, a container's ID.
func (n node) environment(t *testing.T) []string {
	t.Helper()
	return []string{
		"DOCS_CLONE=" + root(t), "DOCS_CRIO=" + n.crio.Dir(), "DOCS_SCRATCH=" + t.TempDir(), "CONTAINER=" + n.container,
		"DOCS_HOST=" + n.registry.ip + " " + exampleRegistry, "SSL_CERT_FILE=" + n.registry.cert, "CURL_CA_BUNDLE=" + n.registry.cert,
	}
}

// pushExample makes the image of the documentation's examples. It is the same everywhere: layers of the golden volume's tar
// and of tars made here, uncompressed, with a configuration without times.
func pushExample(t *testing.T, ref string) {
	t.Helper()
	golden, err := os.ReadFile(filepath.Join(root(t), "driver/volume/testdata/golden.tar"))
	if err != nil {
		t.Fatal(err)
	}
	var layers []v1.Layer
	for _, content := range [][]byte{golden, makeTar(t, "etc/app.conf", "answer = 42\n"), makeTar(t, "run.sh", "#!/bin/sh\n")} {
		layers = append(layers, static.NewLayer(content, types.OCIUncompressedLayer))
	}
	image, err := mutate.AppendLayers(mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON),
		types.OCIManifestSchema1), layers...)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Config.Cmd = "linux", "amd64", []string{"/run.sh"}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	parsed, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(parsed, image, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// makeTar makes a tar with one file.
func makeTar(t *testing.T, name, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	header := &tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	if err := w.WriteHeader(header); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
