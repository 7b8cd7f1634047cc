package trust_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata/trust"
)

// measurement makes one of an image with two layers, which n tells from others.
func measurement(n int) *measure.Measurement {
	v := func(i int) measure.Volume {
		return measure.Volume{Size: 49152, Verity: volume.Verity{RootHash: fmt.Sprintf("%064x", 100*n+i), Algorithm: "sha256",
			HashType: 1, DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: 10, HashOffset: 40960, TreeOffset: 45056}}
	}
	image := v(9)
	digest := func(i int) string { return fmt.Sprintf("sha256:%064x", 100*n+i) }
	return &measure.Measurement{Version: 1, Image: "docker://example.com/app:1", ManifestDigest: digest(50), ConfigDigest: digest(51),
		Platform: "linux/amd64", Layout: volume.LayoutAligned, FormatVersion: 1, ImageVolume: &image,
		Layers: []measure.Layer{{Digest: digest(60), DiffID: digest(70), Volume: v(1)}, {Digest: digest(61), DiffID: digest(71), Volume: v(2)}}}
}

// manifest makes that of a container whose volumes are what was measured.
func manifest(m *measure.Measurement) *volume.Manifest {
	describe := func(v measure.Volume) volume.ManifestVolume {
		return volume.ManifestVolume{Path: "/v/" + v.Verity.RootHash[:8] + "/layer.erofs", Description: volume.Description{
			Layout: m.Layout, FormatVersion: m.FormatVersion, Size: v.Size, Verity: &v.Verity}}
	}
	out := &volume.Manifest{DiffIDs: m.DiffIDs()}
	for _, l := range m.Layers {
		out.Volumes = append(out.Volumes, describe(l.Volume))
	}
	image := describe(*m.ImageVolume)
	out.Image = &image
	return out
}

func privatePEM(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func newKeys(t testing.TB) map[string]*trust.PrivateKey {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]*trust.PrivateKey{}
	for name, key := range map[string]any{"ecdsa": ec, "ed25519": ed} {
		if keys[name], err = trust.ParsePrivateKey(privatePEM(t, key)); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

func sign(t testing.TB, m *measure.Measurement, key *trust.PrivateKey) []byte {
	t.Helper()
	s, err := trust.NewStatement(m)
	if err != nil {
		t.Fatal(err)
	}
	b, err := trust.Sign(t.Context(), s, key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEnvelope(t *testing.T) {
	keys := newKeys(t)
	for name, key := range keys {
		envelope := sign(t, measurement(1), key)
		other := keys["ecdsa"]
		if name == "ecdsa" {
			other = keys["ed25519"]
		}
		s, id, err := trust.Open(t.Context(), envelope, []*trust.Key{&other.Key, &key.Key})
		if err != nil || id != key.ID || s.Predicate.Layers[1].Verity.RootHash != measurement(1).Layers[1].Verity.RootHash {
			t.Errorf("%s: %v, %s, %v", name, s, id, err)
		}
		if _, _, err := trust.Open(t.Context(), envelope, []*trust.Key{&other.Key}); !errors.Is(err, trust.ErrUntrustedKey) {
			t.Errorf("%s: another key: %v", name, err)
		}
		if _, _, err := trust.Open(t.Context(), envelope, nil); !errors.Is(err, trust.ErrUntrustedKey) {
			t.Errorf("%s: no keys: %v", name, err)
		}
		forged := forge(t, envelope, func(s string) string { return strings.ReplaceAll(s, "app:1", "app:2") })
		if _, _, err := trust.Open(t.Context(), forged, []*trust.Key{&key.Key}); !errors.Is(err, trust.ErrUntrustedKey) {
			t.Errorf("%s: changed payload: %v", name, err)
		}
	}
}

// forge changes the payload of an envelope and leaves the signature.
func forge(t *testing.T, envelope []byte, change func(string) string) []byte {
	t.Helper()
	var e map[string]any
	if err := json.Unmarshal(envelope, &e); err != nil {
		t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(e["payload"].(string))
	if err != nil {
		t.Fatal(err)
	}
	changed := change(string(payload))
	if changed == string(payload) {
		t.Fatalf("nothing to change in %s", payload)
	}
	e["payload"] = base64.StdEncoding.EncodeToString([]byte(changed))
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOpenSSL holds keys, key IDs and signatures against another program.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), openssl, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	run("ecparam", "-name", "prime256v1", "-genkey", "-out", "ec.pem")
	run("genpkey", "-algorithm", "ed25519", "-out", "ed.pem")
	for _, name := range []string{"ec", "ed"} {
		run("pkey", "-in", name+".pem", "-pubout", "-out", name+".pub")
		run("pkey", "-in", name+".pem", "-pubout", "-outform", "DER", "-out", name+".der")
		run("dgst", "-sha256", "-r", "-out", name+".id", name+".der")
		private, err := trust.ParsePrivateKey(read(t, filepath.Join(dir, name+".pem")))
		if err != nil {
			t.Fatal(err)
		}
		public, err := trust.ParseKey(read(t, filepath.Join(dir, name+".pub")))
		if err != nil {
			t.Fatal(err)
		}
		if id := strings.Fields(string(read(t, filepath.Join(dir, name+".id"))))[0]; public.ID != id || private.ID != id {
			t.Errorf("key IDs %s, %s; openssl has %s", public.ID, private.ID, id)
		}
		if _, _, err := trust.Open(t.Context(), sign(t, measurement(1), private), []*trust.Key{public}); err != nil {
			t.Error(err)
		}
		sig, err := private.Sign(t.Context(), []byte("data"))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "data"), []byte("data"))
		write(t, filepath.Join(dir, "sig"), sig)
		if name == "ec" {
			run("dgst", "-sha256", "-verify", "ec.pub", "-signature", "sig", "data")
		} else {
			run("pkeyutl", "-verify", "-pubin", "-inkey", "ed.pub", "-rawin", "-in", "data", "-sigfile", "sig")
		}
	}
}

func TestBadKeys(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for want, b := range map[string][]byte{
		"want ECDSA P-256 or Ed25519": privatePEM(t, rsaKey), "want P-256": privatePEM(t, p384), "no PEM block": []byte("x"),
		`a PEM block "ENCRYPTED PRIVATE KEY"`: pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}),
	} {
		if _, err := trust.ParseKey(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
		if _, err := trust.ParsePrivateKey(b); err == nil {
			t.Errorf("private: no error; want %q", want)
		}
	}
}

// TestTwoKeys: of two keys in a file none is left out in silence.
func TestTwoKeys(t *testing.T) {
	keys := newKeys(t)
	both := append(publicPEM(t, keys["ecdsa"]), publicPEM(t, keys["ed25519"])...)
	if k, err := trust.ParseKey(both); err == nil || !strings.Contains(err.Error(), "more than one key") {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestBadStatements(t *testing.T) {
	s, err := trust.NewStatement(measurement(1))
	if err != nil {
		t.Fatal(err)
	}
	good, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trust.ParseStatement(good); err != nil {
		t.Error(err)
	}
	for _, change := range [][2]string{
		{"in-toto.io/Statement/v1", "in-toto.io/Statement/v0.1"}, {"measurement/v1", "measurement/v2"},
		{fmt.Sprintf(`"sha256":"%064x"`, 150), fmt.Sprintf(`"sha256":"%064x"`, 151)}, {`"sha256":"`, `"sha512":"`},
		{`"predicate":{`, `"other":{`}, {`"version":1`, `"version":3`},
	} {
		bad := strings.ReplaceAll(string(good), change[0], change[1])
		if _, err := trust.ParseStatement([]byte(bad)); err == nil || bad == string(good) {
			t.Errorf("accepts %s", change[1])
		}
	}
	noManifest := measurement(1)
	noManifest.ManifestDigest = ""
	if _, err := trust.NewStatement(noManifest); err == nil {
		t.Error("a statement about nothing")
	}
}

func FuzzOpen(f *testing.F) {
	keys := newKeys(f)
	f.Add(sign(f, measurement(1), keys["ecdsa"]))
	f.Add(sign(f, measurement(1), keys["ed25519"]))
	want := measurement(1).ConfigDigest
	f.Fuzz(func(t *testing.T, b []byte) {
		s, _, err := trust.Open(t.Context(), b, []*trust.Key{&keys["ecdsa"].Key, &keys["ed25519"].Key})
		if err == nil && s.Predicate.ConfigDigest != want {
			t.Errorf("opened a forged envelope: %s", b)
		}
	})
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
