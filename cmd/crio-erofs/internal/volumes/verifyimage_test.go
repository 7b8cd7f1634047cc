package volumes

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/clitest"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// tarfsVolume makes a volume with one directory and returns its path and diffID.
func tarfsVolume(t *testing.T, name string) (path string, diffID digest.Digest) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), name+".erofs")
	d, err := volume.Create(path, &b, volume.BuildOptions{Layout: volume.LayoutTarfs})
	if err != nil {
		t.Fatal(err)
	}
	return path, digest.Digest(d.DiffID)
}

func writeDocument(t *testing.T, v any) (path, d string) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "document.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, digest.FromBytes(b).String()
}

// TestVerifyImage goes from an image's digest to its volumes.
func TestVerifyImage(t *testing.T) {
	a, idA := tarfsVolume(t, "a")
	b, idB := tarfsVolume(t, "b")
	config, id := writeDocument(t, imagespec.Image{RootFS: imagespec.RootFS{Type: "layers", DiffIDs: []digest.Digest{idA, idB, idA}}})
	manifest, manifestDigest := writeDocument(t, imagespec.Manifest{Layers: make([]imagespec.Descriptor, 3),
		Config: imagespec.Descriptor{Digest: digest.Digest(id)}})
	var verdicts []verdict
	out := clitest.MustExecute(t, Commands(), "verify", "--image", manifestDigest, "--document", config, "--document", manifest,
		"--format", "json", b, a)
	if err := json.Unmarshal([]byte(out), &verdicts); err != nil || len(verdicts) != 2 || verdicts[0].DiffID != idB.String() ||
		!verdicts[1].OK {
		t.Errorf("%s: %v", out, err)
	}
	clitest.MustExecute(t, Commands(), "verify", "--image", id, "--document", config, b, a)
	for want, args := range map[string][]string{
		"volume of layer " + idB.String() + ": the tar in the volume has digest " + idA.String(): {"--image", id, "--document", config, a, b},
		"has 2 volumes, given are 3":          {"--image", id, "--document", config, a, b, a},
		"none of the 1 documents given has":   {"--image", id, "--document", manifest, b, a},
		"leave --root-hash and --diff-id out": {"--image", id, "--diff-id", idA.String(), b, a},
		"is not sha256: and 64":               {"--image", "x", b},
		"accepts 1 arg(s), received 2":        {b, a},
	} {
		clitest.Refuse(t, Commands(), want, append([]string{"verify"}, args...)...)
	}
}
