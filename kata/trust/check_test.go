package trust_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/trust"
)

// newDir makes directories with these files, and public keys.
func newDir(t *testing.T, files map[string][]byte, keys ...*trust.PrivateKey) (d *trust.Dir, path string) {
	t.Helper()
	config := t.TempDir()
	path = filepath.Join(config, trust.DirName)
	for _, dir := range []string{trust.DirName, trust.KeysName} {
		if err := os.Mkdir(filepath.Join(config, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range files {
		write(t, filepath.Join(path, name), b)
	}
	for _, k := range keys {
		write(t, filepath.Join(config, trust.KeysName, k.ID[:8]+".pem"), publicPEM(t, k))
	}
	return trust.NextTo(filepath.Join(config, "config.toml")), path
}

func publicPEM(t testing.TB, k *trust.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func imageID(m *measure.Measurement) string { return strings.TrimPrefix(m.ConfigDigest, "sha256:") }

func TestCheck(t *testing.T) {
	a, b := measurement(1), measurement(2)
	d, path := newDir(t, map[string][]byte{"a.json": marshal(t, a), "b.json": marshal(t, b)})
	for _, mode := range []kata.Mode{kata.ModeLayerVerity, kata.ModeImageVerity, kata.ModeGuestPull} {
		for _, id := range []string{imageID(a), ""} {
			if err := d.Check(t.Context(), manifest(a), mode, id); err != nil {
				t.Errorf("%s, %q: %v", mode, id, err)
			}
		}
	}
	file := " (" + filepath.Join(path, "a.json") + ")"
	swapped := manifest(a)
	swapped.Volumes[1], swapped.Image = manifest(b).Volumes[1], manifest(b).Image
	untrusted := measurement(3)
	fewer := manifest(a)
	fewer.Volumes = fewer.Volumes[:1]
	otherLayers := manifest(a)
	otherLayers.DiffIDs = b.DiffIDs()
	otherSize := manifest(a)
	otherSize.Volumes[0].Size++
	unverified := manifest(a)
	unverified.Volumes[0].Verity = nil
	tarfs := manifest(a)
	tarfs.Volumes[0].Layout, tarfs.Volumes[1].Layout = volume.LayoutTarfs, volume.LayoutTarfs
	newer, mixed := manifest(a), manifest(a)
	newer.Volumes[0].FormatVersion, newer.Volumes[1].FormatVersion = 2, 2
	mixed.Volumes[1].FormatVersion, mixed.Image.FormatVersion = 2, 2
	for _, tt := range []struct {
		name string
		m    *volume.Manifest
		mode kata.Mode
		id   string
		want string
	}{
		{"volume of another image", swapped, kata.ModeLayerVerity, imageID(a), "volume of layer " + a.Layers[1].DiffID + " " +
			swapped.Volumes[1].Path + " has root hash " + b.Layers[1].Verity.RootHash + ", measured was " + a.Layers[1].Verity.RootHash + file},
		{"image volume of another image", swapped, kata.ModeImageVerity, imageID(a), "has root hash " + b.ImageVolume.Verity.RootHash +
			", measured was " + a.ImageVolume.Verity.RootHash + file},
		{"all volumes of another image", manifest(b), kata.ModeLayerVerity, imageID(a), "the node has layers with diffIDs"},
		{"not measured", manifest(untrusted), kata.ModeLayerVerity, imageID(untrusted), "has no measurement of it; add one"},
		{"not measured, no id", manifest(untrusted), kata.ModeLayerVerity, "", "has no measurement of it; add one"},
		{"fewer volumes", fewer, kata.ModeLayerVerity, imageID(a), "the node has 1 volumes, measured were 2"},
		{"other layers", otherLayers, kata.ModeLayerVerity, imageID(a), "the node has layers with diffIDs"},
		{"other size", otherSize, kata.ModeLayerVerity, imageID(a), "is otherwise not what was measured"},
		{"no tree", unverified, kata.ModeLayerVerity, imageID(a), "has no dm-verity tree"},
		{"another version", newer, kata.ModeLayerVerity, imageID(a), "and the node's volumes have layout aligned, format version 2: measure it"},
		{"two versions", mixed, kata.ModeLayerVerity, imageID(a), "several formats (layout aligned, format version 1; layout aligned, format version 2)"},
		{"an image volume of two versions", mixed, kata.ModeImageVerity, imageID(a), "several formats"},
		{"another layout", tarfs, kata.ModeLayerVerity, imageID(a), "measured for layout aligned, format version 1"},
		{"not verified by the guest", manifest(a), kata.ModeLayer, imageID(a), "mode layer lets the host change"},
		{"shared directory", manifest(a), kata.ModeSharedFS, imageID(a), "mode shared-fs lets the host change"},
	} {
		err := d.Check(t.Context(), tt.m, tt.mode, tt.id)
		if !errors.Is(err, trust.ErrUntrusted) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q", tt.name, err, tt.want)
		}
	}
}

// TestDirChanges changes the directories under a Dir that is in use.
func TestDirChanges(t *testing.T) {
	a := measurement(1)
	keys := newKeys(t)
	d, path := newDir(t, nil, keys["ecdsa"])
	check := func(want string) {
		t.Helper()
		err := d.Check(t.Context(), manifest(a), kata.ModeImageVerity, imageID(a))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	file := filepath.Join(path, "a.json")
	check("has no measurement of it")
	write(t, file, sign(t, a, keys["ecdsa"]))
	check("")
	write(t, file, sign(t, a, keys["ed25519"]))
	check("(1 files there do not count, the first is " + file + ": envelope: no signature of a trusted key: 1 keys are configured)")
	another := filepath.Join(path, "0.json")
	write(t, another, sign(t, measurement(2), keys["ed25519"])) // which cannot be the missing one, so it is not read
	check("(1 files there do not count, the first is " + file)
	write(t, another, []byte("{}"))
	check("(2 files there do not count, the first is " + another)
	if err := os.Remove(another); err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(d.KeysPath(), "ed.pem")
	write(t, keyFile, publicPEM(t, keys["ed25519"]))
	check("")
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	check("no signature of a trusted key")
	write(t, keyFile, []byte("no key"))
	check("key " + keyFile + ": no PEM block")
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	write(t, file, marshal(t, a))
	check("")
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	check("mode -rw-rw-rw- lets others than the owner write it")
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	check("")
	other := measurement(1)
	other.ImageVolume.Verity.RootHash = strings.Repeat("f", 64)
	write(t, filepath.Join(path, "b.json"), marshal(t, other))
	check("measured was " + strings.Repeat("f", 64) + " (" + filepath.Join(path, "b.json") + ")")
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	check("has mode -rwxrwxrwx, so that others than its owner could put another file there")
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	check("has mode -rwxrwxrwx, so that others than its owner could put another file there")
	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	check("has no measurement of it")
}
