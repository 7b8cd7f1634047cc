package crio_test

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/ocicrypt"
	"github.com/containers/ocicrypt/config"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/crio"
)

// TestEncrypted pulls an image with an encrypted layer: without its key nothing of it gets into the store, with it the
// node has the volume that was measured before the layer was encrypted.
func TestEncrypted(t *testing.T) {
	if *storageDriver != "" {
		t.Skip("looks into the store of the erofs driver")
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: "secret", Mode: 0o644, Size: 6}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "secret"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	keys := t.TempDir()
	public := writeRSAKey(t, filepath.Join(keys, "key.pem"))
	plain := pushImage(t, "plain", types.OCIUncompressedLayer, layer.Bytes(), layer.Bytes(), nil)
	encrypted, annotations := encrypt(t, layer.Bytes(), public)
	ref := pushImage(t, "encrypted", types.OCIUncompressedLayer+"+encrypted", encrypted, layer.Bytes(), annotations)
	measured := measureImage(t, plain)

	server := start(t)
	_, err := server.PullImage(timeout(t), ref)
	if err == nil || !strings.Contains(err.Error(), "missing private key needed for decryption") {
		t.Errorf("pull without the key: %v", err)
	}
	if roots := rootHashesOf(t, server); len(roots) != 0 {
		t.Errorf("the store has volumes %v of an image that was not pulled", roots)
	}

	conf := fmt.Sprintf("[crio.runtime]\ndecryption_keys_path = %q\n", keys)
	if err := os.WriteFile(filepath.Join(server.Dir(), "crio.conf.d/95-keys.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if err := server.Run(timeout(t)); err != nil {
		t.Fatal(err)
	}
	must[string](t)(server.PullImage(timeout(t), ref))
	if roots := rootHashesOf(t, server); !roots[measured.Layers[0].Verity.RootHash] || len(roots) != 1 {
		t.Errorf("the store has volumes %v, measured was %s", roots, measured.Layers[0].Verity.RootHash)
	}
}

func writeRSAKey(t *testing.T, path string) (public []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(path, private, 0o600); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// encrypt does what skopeo copy --encryption-key does to a layer.
func encrypt(t *testing.T, layer, public []byte) ([]byte, map[string]string) {
	t.Helper()
	cc, err := config.EncryptWithJwe([][]byte{public})
	if err != nil {
		t.Fatal(err)
	}
	r, finish, err := ocicrypt.EncryptLayer(cc.EncryptConfig, bytes.NewReader(layer), imagespec.Descriptor{
		MediaType: imagespec.MediaTypeImageLayer, Digest: digest.FromBytes(layer), Size: int64(len(layer))})
	if err != nil {
		t.Fatal(err)
	}
	encrypted, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	annotations, err := finish()
	if err != nil {
		t.Fatal(err)
	}
	return encrypted, annotations
}

// plainLayer is a layer with the diffID of its plain text.
type plainLayer struct {
	v1.Layer
	diffID digest.Digest
}

func (l plainLayer) DiffID() (v1.Hash, error) { return v1.NewHash(l.diffID.String()) }

// pushImage pushes an image of one layer and returns its reference.
func pushImage(t *testing.T, repository string, mediaType types.MediaType, blob, plain []byte, annotations map[string]string) string {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.Append(img, mutate.Addendum{Layer: plainLayer{static.NewLayer(blob, mediaType), digest.FromBytes(plain)},
		Annotations: annotations, MediaType: mediaType})
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	ref := registry.Address + "/" + repository + ":1"
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	return ref
}

// rootHashesOf returns those of the store's volumes, without the pause image's.
func rootHashesOf(t *testing.T, server *crio.Server) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(server.GraphRoot(), "erofs/volumes/*/", volume.FileName))
	if err != nil {
		t.Fatal(err)
	}
	roots := map[string]bool{}
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		fi, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		info, err := volume.Inspect(f, fi.Size())
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		roots[info.Verity.RootHash] = true
	}
	return roots
}
