package images

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/clitest"
	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/kata/trust"
	"github.com/crio-erofs/crio-erofs/kata/trust/referrer"
)

func execute(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return clitest.Execute(t, Commands(), args...)
}

func mustExecute(t *testing.T, args ...string) string {
	t.Helper()
	return clitest.MustExecute(t, Commands(), args...)
}

func refuse(t *testing.T, want string, args ...string) {
	t.Helper()
	clitest.Refuse(t, Commands(), want, args...)
}

// pushList pushes a list of two small images to a registry of its own and returns its name, and how to talk to it.
func pushList(t *testing.T) (image string, flag string) {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(server.Close)
	image = strings.TrimPrefix(server.URL, "http://") + "/org/app:1"
	ref, err := name.ParseReference(image, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: clitest.NewImage(t, arch),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	return "docker://" + image, "--tls-verify=false"
}

// writeKey makes a key pair and returns the paths of both halves.
func writeKey(t *testing.T, dir string) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	privateDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	publicDER, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	private, public = filepath.Join(dir, "private"), filepath.Join(dir, "public.pem")
	for path, block := range map[string]*pem.Block{private: {Type: "EC PRIVATE KEY", Bytes: privateDER}, public: {Type: "PUBLIC KEY", Bytes: publicDER}} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return private, public
}

// TestAttest takes a list of images from signing to the trust of a node.
func TestAttest(t *testing.T) {
	image, flag := pushList(t)
	etc := t.TempDir()
	config := filepath.Join(etc, "config.toml")
	private, public := writeKey(t, filepath.Join(etc, trust.KeysName))
	_, stranger := writeKey(t, t.TempDir())

	refuse(t, "has no measurement that one of 1 keys has signed", "verify-image", flag, "--key", public, "--all", image)
	mustExecute(t, "attest", flag, "--key", private, "--platform", "linux/amd64", image)
	mustExecute(t, "verify-image", flag, "--key", public, "--platform", "linux/amd64", image)
	refuse(t, "(linux/arm64)", "verify-image", flag, "--key", public, "--all", image)
	mustExecute(t, "attest", flag, "--key", private, "--all", image)
	out := mustExecute(t, "verify-image", flag, "--key", public, "--all", "--format", "json", image)
	if n := strings.Count(out, `"recomputed": true`); n != 2 {
		t.Errorf("%d measurements: %s", n, out)
	}
	refuse(t, "has no measurement that one of 1 keys has signed", "verify-image", flag, "--key", stranger, "--all", image)

	mustExecute(t, "trust", "fetch", "--config", config, flag, "--all", image)
	mustExecute(t, "trust", "fetch", "--config", config, flag, "--all", image) // again
	var list []trusted
	if err := json.Unmarshal([]byte(mustExecute(t, "trust", "ls", "--config", config, "--format", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].SignedBy == "" || list[0].Problem != "" || list[0].ImageRootHash == "" {
		t.Errorf("%+v", list)
	}

	olderImage(t, image, flag, private, public)
	wrongImage(t, image, flag, private, public, config)
}

// olderImage signs a measurement of another format version, as there is one from before an upgrade.
func olderImage(t *testing.T, image, flag, private, public string) {
	t.Helper()
	m := measured(t, image, flag)
	m.FormatVersion = 1
	push(t, image, sign(t, m, private), m)
	out := mustExecute(t, "verify-image", flag, "--key", public, "--platform", "linux/amd64", image)
	if !strings.Contains(out, "equal") || !strings.Contains(out, "no: of format version 1") {
		t.Error(out)
	}
	m.ManifestDigest = digest.FromString("another image").String()
	found := []*referrer.Found{{Statement: &trust.Statement{Predicate: m}}}
	if _, err := (&verifyImageOptions{}).recompute(t.Context(), image, found); err == nil || !strings.Contains(err.Error(), "of format version 1") {
		t.Errorf("alone: %v", err)
	}
}

// wrongImage signs a wrong measurement, as who has the key but another format or bad intentions would.
func wrongImage(t *testing.T, image, flag, private, public, config string) {
	t.Helper()
	m := measured(t, image, flag)
	m.ImageVolume.Verity.RootHash = strings.Repeat("0", 64)
	envelope := sign(t, m, private)
	file := filepath.Join(t.TempDir(), "envelope")
	if err := os.WriteFile(file, envelope, 0o600); err != nil {
		t.Fatal(err)
	}
	refuse(t, "it contradicts", "trust", "add", "--config", config, file)
	push(t, image, envelope, m)
	refuse(t, "what is signed is wrong: the image volume has root hash", "verify-image", flag, "--key", public, "--platform", "linux/amd64", image)
	mustExecute(t, "verify-image", flag, "--key", public, "--no-recompute", "--platform", "linux/amd64", image)
}

func measured(t *testing.T, image, flag string) *measure.Measurement {
	t.Helper()
	m := &measure.Measurement{}
	if err := json.Unmarshal([]byte(mustExecute(t, "measure", flag, "--platform", "linux/amd64", "--format", "json", image)), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// sign returns a measurement in an envelope, signed with the key in a file.
func sign(t *testing.T, m *measure.Measurement, private string) []byte {
	t.Helper()
	key, err := os.ReadFile(private)
	if err != nil {
		t.Fatal(err)
	}
	k, err := trust.ParsePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := trust.NewStatement(m)
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := trust.Sign(t.Context(), s, k)
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

// push stores an envelope with an image.
func push(t *testing.T, image string, envelope []byte, m *measure.Measurement) {
	t.Helper()
	var o registryOptions
	o.addFlags(pflag.NewFlagSet("", pflag.ContinueOnError))
	if err := o.flags.Set("tls-verify", "false"); err != nil {
		t.Fatal(err)
	}
	repo, err := o.repository(image)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Push(t.Context(), envelope, m); err != nil {
		t.Fatal(err)
	}
}

// TestReferrerFormat pushes what measure prints as an OCI manifest, with nothing else at hand, and lists it.
func TestReferrerFormat(t *testing.T) {
	image, flag := pushList(t)
	out := mustExecute(t, "measure", flag, "--platform", "linux/amd64", "--format", "oci-referrer", image)
	var m imagespec.Manifest
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		t.Fatal(err)
	}
	if m.ArtifactType != referrer.ArtifactType || digest.FromBytes(m.Layers[0].Data) != m.Layers[0].Digest {
		t.Errorf("%s", out)
	}
	if s, err := trust.ParseStatement(m.Layers[0].Data); err != nil || s.Predicate.ManifestDigest != m.Subject.Digest.String() {
		t.Errorf("statement %+v: %v", s, err)
	}
	ref, err := name.ParseReference(strings.TrimPrefix(image, "docker://"), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	head, err := remote.Head(ref.Context().Digest(m.Subject.Digest.String()))
	if err != nil || head.Size != m.Subject.Size || string(head.MediaType) != m.Subject.MediaType {
		t.Errorf("subject %+v, the registry has %+v, %v", m.Subject, head, err)
	}
	for _, blob := range [][]byte{m.Layers[0].Data, []byte("{}")} {
		if err := remote.WriteLayer(ref.Context(), static.NewLayer(blob, types.OCILayer)); err != nil {
			t.Fatal(err)
		}
	}
	tag := ref.Context().Tag("measurement")
	if err := remote.Put(tag, manifestBytes(strings.TrimSpace(out))); err != nil {
		t.Fatal(err)
	}
	index, err := remote.Referrers(ref.Context().Digest(m.Subject.Digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	if list, err := index.IndexManifest(); err != nil || len(list.Manifests) != 1 || list.Manifests[0].ArtifactType != referrer.ArtifactType {
		t.Errorf("listed are %+v, %v", list, err)
	}
	_, key := writeKey(t, t.TempDir())
	refuse(t, "has no measurement that one of 1 keys has signed", "verify-image", flag, "--key", key, "--platform", "linux/amd64", image)
}

// manifestBytes is a manifest as it is.
type manifestBytes string

func (b manifestBytes) RawManifest() ([]byte, error)      { return []byte(b), nil }
func (manifestBytes) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

func TestTrustAdd(t *testing.T) {
	image, flag := pushList(t)
	etc := t.TempDir()
	config := filepath.Join(etc, "config.toml")
	file := filepath.Join(t.TempDir(), "measurements")
	if err := os.WriteFile(file, []byte(mustExecute(t, "measure", flag, "--all", "--format", "json", image)), 0o600); err != nil {
		t.Fatal(err)
	}
	out := mustExecute(t, "trust", "add", "--config", config, file)
	if n := strings.Count(out, filepath.Join(etc, trust.DirName)); n != 2 {
		t.Errorf("%d files: %s", n, out)
	}
	if err := os.WriteFile(filepath.Join(etc, trust.DirName, "x.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := mustExecute(t, "trust", "ls", "--config", config); !strings.Contains(out, "x.json") || !strings.Contains(out, "does not count: measurement: version 0") {
		t.Error(out)
	}
	private, _ := writeKey(t, t.TempDir())
	envelope := mustExecute(t, "attest", flag, "--no-push", "--key", private, "--platform", "linux/amd64", image)
	if err := os.WriteFile(file, []byte(envelope), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse(t, "document 1: envelope: no signature of a trusted key: 0 keys are configured", "trust", "add", "--config", config, file)
	refuse(t, "has no keys", "trust", "fetch", "--config", config, flag, image)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refuse(t, "EOF", "trust", "add", "--config", config, empty)
}

func TestMeasureUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"want at least one image": {"measure"}, "does not start with a transport": {"measure", "app"},
		"must be one of (table|json|": {"measure", "--format", "xml", "oci:x"}, "layout": {"measure", "--layout", "x", "oci:x"},
		"--creds must be": {"measure", "--creds", ":x", "oci:x"}, "--jobs -1": {"measure", "--jobs", "-1", "oci:x"},
		"--key is missing": {"attest", "docker://x"}, "is not in a registry": {"verify-image", "--key", os.DevNull, "oci:x"},
	} {
		out, err := execute(t, args...)
		if err == nil || !strings.Contains(err.Error(), want) || out != "" {
			if want != "is not in a registry" { // the key is read first
				t.Errorf("%q: %v, %q; want %q", args, err, out, want)
			}
		}
	}
}
