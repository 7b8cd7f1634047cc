package crio_test

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/crio"
)

// secret is what nobody is to read on the node.
const secret = "the secret of an encrypted layer"

// TestEncrypted pulls an image with an encrypted layer. Without its key, and with it as long as the driver does not allow
// it, nothing of it gets on the node's disk. If it is allowed, the node has the volume that was measured before the layer
// was encrypted.
func TestEncrypted(t *testing.T) {
	if *storageDriver != "" {
		t.Skip("looks into the store of the erofs driver")
	}
	keys := t.TempDir()
	publicKey := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(publicKey, writeRSAKey(t, filepath.Join(keys, "key.pem")), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := pushImage(t, "plain", newImage(t, v1.Config{}, static.NewLayer(secretLayer(t), types.OCIUncompressedLayer)))
	ref := encryptImage(t, plain, publicKey)
	measured := measureImage(t, plain)

	server := start(t)
	refused := func(when, want string) {
		t.Helper()
		_, err := server.PullImage(timeout(t), ref)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", when, err, want)
		}
		if roots := rootHashesOf(t, server); len(roots) != 0 {
			t.Errorf("%s: the store has volumes %v of an image that was not pulled", when, roots)
		}
		if files := filesWithSecret(t, server.Dir()); len(files) != 0 {
			t.Errorf("%s: the plain text is in %q", when, files)
		}
	}
	configure := func(conf string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(server.Dir(), "crio.conf.d/95-keys.conf"), []byte(conf), 0o644); err != nil {
			t.Fatal(err)
		}
		server.Kill()
		if err := server.Run(timeout(t)); err != nil {
			t.Fatal(err)
		}
	}
	refused("without the key", "missing private key needed for decryption")
	withKeys := fmt.Sprintf("[crio.runtime]\ndecryption_keys_path = %q\n", keys)
	configure(withKeys)
	refused("with the key", "the storage driver erofs keeps no decrypted layers")

	configure(withKeys + "[crio]\nstorage_option = [\"erofs.decrypted_layers=allow\"]\n")
	must[string](t)(server.PullImage(timeout(t), ref))
	if roots := rootHashesOf(t, server); !roots[measured.Layers[0].Verity.RootHash] || len(roots) != 1 {
		t.Errorf("the store has volumes %v, measured was %s", roots, measured.Layers[0].Verity.RootHash)
	}
	if len(filesWithSecret(t, server.Dir())) == 0 {
		t.Error("the plain text is nowhere: looking for it shows nothing")
	}
}

func secretLayer(t *testing.T) []byte {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: "secret", Mode: 0o644, Size: int64(len(secret))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, secret); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return layer.Bytes()
}

// filesWithSecret returns the files below dir that have the secret in plain text.
func filesWithSecret(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(secret)) {
			files = append(files, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
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

// encryptImage stores an image once more with its layers encrypted, and returns that image's reference.
func encryptImage(t *testing.T, ref, publicKey string) string {
	t.Helper()
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skipf("%v: run 'make deps'", err)
	}
	encrypted := strings.Replace(ref, "plain", "encrypted", 1)
	out, err := exec.CommandContext(timeout(t), skopeo, "--insecure-policy", "copy", "--src-tls-verify=false",
		"--dest-tls-verify=false", "--encryption-key", "jwe:"+publicKey, "docker://"+ref, "docker://"+encrypted).CombinedOutput()
	if err != nil {
		t.Fatalf("skopeo copy: %v: %s", err, out)
	}
	return encrypted
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
