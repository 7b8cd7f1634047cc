package measure_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/verity"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// TestVerifyTarfs goes from an image's id, the digest of its configuration, to the root hash of a layer's volume, with
// nothing measured beforehand; and tries what a host could do.
func TestVerifyTarfs(t *testing.T) {
	tar := makeTar(t, [2]string{"bin", "good"}, [2]string{"other", strings.Repeat("x", 5000)})
	img := makeImage(t, "amd64", types.OCIUncompressedLayer, tar)
	id, err := img.ConfigName() // what the guest knows
	if err != nil {
		t.Fatal(err)
	}
	raw, err := img.RawConfigFile() // what the host says
	if err != nil {
		t.Fatal(err)
	}
	if digest.FromBytes(raw).String() != id.String() {
		t.Fatal("the host gave another configuration")
	}
	var config imagespec.Image
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	diffID := config.RootFS.DiffIDs[0].String()

	path := filepath.Join(t.TempDir(), "layer.erofs")
	d, err := volume.Create(path, bytes.NewReader(tar), volume.BuildOptions{Layout: volume.LayoutTarfs})
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(b []byte) (string, error) {
		return measure.VerifyTarfs(t.Context(), bytes.NewReader(b), int64(len(b)), diffID)
	}
	if root, err := check(good); err != nil || root != d.Verity.RootHash {
		t.Errorf("%s, %v; want %s", root, err, d.Verity.RootHash)
	}
	// Every byte of the image, with a tree that fits again.
	info, err := volume.Inspect(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	const step = 97
	for offset := 0; offset < int(info.Image.Size()); offset += step {
		bad := bytes.Clone(good)
		bad[offset] ^= 0x20
		rehash(t, bad, d.Verity)
		if root, err := check(bad); err == nil {
			t.Fatalf("byte %d changed: accepted as %s", offset, root)
		}
	}
	other := makeTar(t, [2]string{"bin", "evil"}, [2]string{"other", strings.Repeat("x", 5000)})
	if _, err := volume.Create(path, bytes.NewReader(other), volume.BuildOptions{Layout: volume.LayoutTarfs}); err != nil {
		t.Fatal(err)
	}
	swapped, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := check(swapped); err == nil || !strings.Contains(err.Error(), "the tar in the volume has digest "+digest.FromBytes(other).String()) {
		t.Errorf("another layer's volume: %v", err)
	}
	if _, err := volume.Create(path, bytes.NewReader(tar), volume.BuildOptions{}); err != nil {
		t.Fatal(err)
	}
	aligned, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := check(aligned); err == nil {
		t.Error("a volume without the tar was accepted")
	}
}

// rehash makes tree and superblock of a changed image.
func rehash(t *testing.T, b []byte, v *volume.Verity) {
	t.Helper()
	leaves := &verity.Leaves{}
	digests := make([]byte, v.DataBlocks*sha256.Size)
	verity.Digests(digests, b[:v.DataBlocks*uint64(v.DataBlockSize)], int(v.DataBlockSize))
	if err := leaves.Append(digests); err != nil {
		t.Fatal(err)
	}
	w := writerAt(b)
	root, err := verity.WriteTree(w, int64(v.TreeOffset), leaves)
	if err != nil {
		t.Fatal(err)
	}
	p := verity.Params{DataBlockSize: v.DataBlockSize, DataBlocks: v.DataBlocks, HashOffset: v.HashOffset}
	if err := verity.WriteSuperblock(w, p, root); err != nil {
		t.Fatal(err)
	}
}

type writerAt []byte

func (w writerAt) WriteAt(b []byte, offset int64) (int, error) { return copy(w[offset:], b), nil }
