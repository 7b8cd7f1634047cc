package referrer_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata/trust"
	"github.com/crio-erofs/crio-erofs/kata/trust/referrer"
	"github.com/crio-erofs/crio-erofs/test/env"
)

// TestRegistries stores and finds measurements in a registry that lists referrers and in two that do not.
func TestRegistries(t *testing.T) {
	quiet := registry.Logger(log.New(io.Discard, "", 0))
	for kind, options := range map[string][]registry.Option{
		"with referrers API": {quiet, registry.WithReferrersSupport(true)}, "tag schema": {quiet},
	} {
		t.Run(kind, func(t *testing.T) {
			server := httptest.NewServer(registry.New(options...))
			t.Cleanup(server.Close)
			testRegistry(t, strings.TrimPrefix(server.URL, "http://"))
		})
	}
	t.Run("docker-registry", func(t *testing.T) {
		r, err := env.StartRegistry(t.Context(), t.TempDir())
		if err != nil {
			t.Skip(err)
		}
		t.Cleanup(r.Stop)
		testRegistry(t, r.Address)
	})
}

func testRegistry(t *testing.T, address string) {
	repository := address + "/org/app"
	m, other := pushImage(t, repository), pushImage(t, repository)
	key, stranger := newKey(t, 1), newKey(t, 2)
	repo, err := referrer.NewRepository(repository, true)
	if err != nil {
		t.Fatal(err)
	}
	find := func(want int, wantIgnored ...string) []*referrer.Found {
		t.Helper()
		found, ignored, err := repo.Find(t.Context(), m.ManifestDigest, []*trust.Key{&key.Key})
		if err != nil {
			t.Fatal(err)
		}
		if len(found) != want || len(ignored) != len(wantIgnored) {
			t.Fatalf("%d found, ignored %v; want %d, %q", len(found), ignored, want, wantIgnored)
		}
		for i := range ignored {
			if !strings.Contains(ignored[i].Error(), wantIgnored[i]) {
				t.Errorf("ignored %v; want %q", ignored[i], wantIgnored[i])
			}
		}
		return found
	}
	find(0)
	envelope := sign(t, m, key)
	pushed, err := repo.Push(t.Context(), envelope, m)
	if err != nil {
		t.Fatal(err)
	}
	again, err := repo.Push(t.Context(), envelope, m)
	if err != nil || again != pushed {
		t.Errorf("the second time: %s, %v; the first time %s", again, err, pushed)
	}
	f := find(1)[0]
	if f.Name != pushed || f.KeyID != key.ID || string(f.Envelope) != string(envelope) ||
		f.Statement.Predicate.ConfigDigest != m.ConfigDigest {
		t.Errorf("found %+v", f)
	}
	// Another's signature, and a measurement of another image that is offered for this one.
	if _, err := repo.Push(t.Context(), sign(t, m, stranger), m); err != nil {
		t.Fatal(err)
	}
	find(1, "no signature of a trusted key")
	lie := *m
	if _, err := repo.Push(t.Context(), sign(t, other, key), &lie); err != nil {
		t.Fatal(err)
	}
	found, ignored, err := repo.Find(t.Context(), m.ManifestDigest, []*trust.Key{&key.Key, &stranger.Key})
	if err != nil || len(found) != 2 || len(ignored) != 1 || !strings.Contains(ignored[0].Error(), "it is of the image with manifest "+other.ManifestDigest) {
		t.Errorf("%d found, ignored %v, %v", len(found), ignored, err)
	}
	absent := measure.Measurement{ManifestDigest: digest.FromString("x").String(), ManifestType: "x", ManifestSize: 1}
	if _, err := repo.Push(t.Context(), envelope, &absent); err == nil {
		t.Error("pushed a referrer of an image that is not there")
	}
}

// pushImage makes an image and a measurement of it; the volumes are made up.
func pushImage(t *testing.T, repository string, options ...remote.Option) *measure.Measurement {
	t.Helper()
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewDigest(repository+"@"+manifest.String(), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, options...); err != nil {
		t.Fatal(err)
	}
	size, err := img.Size()
	if err != nil {
		t.Fatal(err)
	}
	mediaType, err := img.MediaType()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	v := measure.Volume{Size: 49152, Verity: volume.Verity{RootHash: fmt.Sprintf("%064x", os.Getpid()), Algorithm: "sha256",
		HashType: 1, DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: 10, HashOffset: 40960, TreeOffset: 45056}}
	d := digest.FromString("layer").String()
	return &measure.Measurement{Version: 1, ManifestDigest: manifest.String(), ManifestType: string(mediaType), ManifestSize: size,
		ConfigDigest: config.String(), Platform: "linux/amd64",
		Layout: volume.LayoutAligned, FormatVersion: 1, ImageVolume: &v, Layers: []measure.Layer{{Digest: d, DiffID: d, Volume: v}}}
}

func newKey(t *testing.T, seed byte) *trust.PrivateKey {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), ed25519.SeedSize))))
	if err != nil {
		t.Fatal(err)
	}
	k, err := trust.ParsePrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t *testing.T, m *measure.Measurement, key *trust.PrivateKey) []byte {
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
