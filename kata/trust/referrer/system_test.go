package referrer_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/types"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/kata/trust"
	"github.com/crio-erofs/crio-erofs/kata/trust/referrer"
)

// tlsRegistry is a registry with a certificate that no system trusts. Its lists have one referrer a page.
type tlsRegistry struct {
	*httptest.Server
	address string
	asked   []string // paths of lists
	goesOn  string   // the server on which lists go on, if not this one
}

func startTLSRegistry(t *testing.T) *tlsRegistry {
	t.Helper()
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
	r := &tlsRegistry{}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.Contains(req.URL.Path, "/referrers/") {
			r.asked = append(r.asked, req.URL.Path)
			r.page(t, w, req, inner)
			return
		}
		inner.ServeHTTP(w, req)
	}))
	t.Cleanup(r.Close)
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.address = strings.TrimPrefix(r.URL, "https://")
	return r
}

func (r *tlsRegistry) page(t *testing.T, w http.ResponseWriter, req *http.Request, inner http.Handler) {
	whole := httptest.NewRecorder()
	inner.ServeHTTP(whole, req)
	var index imagespec.Index
	if whole.Code != http.StatusOK || json.Unmarshal(whole.Body.Bytes(), &index) != nil {
		http.Error(w, "no list", http.StatusNotFound)
		return
	}
	n, _ := strconv.Atoi(req.URL.Query().Get("n")) // 0, if it is not there
	if n < len(index.Manifests)-1 {
		w.Header().Set("Link", fmt.Sprintf(`<%s%s?n=%d>; rel="next"`, r.goesOn, req.URL.Path, n+1))
	}
	if len(index.Manifests) > 0 {
		index.Manifests = index.Manifests[n : n+1]
	}
	w.Header().Set("Content-Type", imagespec.MediaTypeImageIndex+"; charset=utf-8")
	if err := json.NewEncoder(w).Encode(index); err != nil {
		t.Error(err)
	}
}

// system is a configuration of its own for a machine that trusts these registries' certificates.
func system(t *testing.T, registriesConf string, trusted ...*tlsRegistry) *types.SystemContext {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "registries.conf")
	if err := os.WriteFile(conf, []byte(registriesConf), 0o644); err != nil {
		t.Fatal(err)
	}
	certs := filepath.Join(dir, "certs.d")
	for _, r := range trusted {
		if err := os.MkdirAll(filepath.Join(certs, r.address), 0o755); err != nil {
			t.Fatal(err)
		}
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw})
		if err := os.WriteFile(filepath.Join(certs, r.address, "ca.crt"), ca, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &types.SystemContext{SystemRegistriesConfPath: conf, SystemRegistriesConfDirPath: filepath.Join(dir, "none"),
		DockerPerHostCertDirPath: certs, AuthFilePath: filepath.Join(dir, "auth.json")}
}

func open(t *testing.T, sys *types.SystemContext, repository string) (*referrer.Repository, error) {
	t.Helper()
	named, err := reference.ParseNormalizedNamed(repository)
	if err != nil {
		t.Fatal(err)
	}
	return referrer.Open(sys, named)
}

func mustOpen(t *testing.T, sys *types.SystemContext, repository string) *referrer.Repository {
	t.Helper()
	repo, err := open(t, sys, repository)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

// TestOpen keeps measurements in a registry of which registries.conf and certs.d know how to talk to it.
func TestOpen(t *testing.T) {
	key := newKey(t, 1)
	r, mirror := startTLSRegistry(t), startTLSRegistry(t)
	repository := r.address + "/org/app"
	m := pushImage(t, repository, remote.WithTransport(r.Client().Transport))
	find := func(repo *referrer.Repository, of *measure.Measurement) (int, []error, error) {
		found, ignored, err := repo.Find(t.Context(), of.ManifestDigest, []*trust.Key{&key.Key})
		return len(found), ignored, err
	}

	repo := mustOpen(t, system(t, "", r), repository)
	for range 3 { // signatures of this kind are the same each time
		m.Image += "x"
		if _, err := repo.Push(t.Context(), sign(t, m, key), m); err != nil {
			t.Fatal(err)
		}
	}
	if n, _, err := find(repo, m); n != 3 || err != nil {
		t.Errorf("found %d on three pages: %v", n, err)
	}
	r.goesOn = "https://" + mirror.address
	if _, _, err := find(repo, m); err == nil || !strings.Contains(err.Error(), "which is another server") {
		t.Errorf("a list that goes on elsewhere: %v", err)
	}
	r.goesOn = ""

	if _, _, err := find(mustOpen(t, system(t, ""), repository), m); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate: %v", err)
	}
	conf := "[[registry]]\nlocation = %q\ninsecure = true\n"
	if n, _, err := find(mustOpen(t, system(t, fmt.Sprintf(conf, r.address)), repository), m); n != 3 || err != nil {
		t.Errorf("insecure: %d, %v", n, err)
	}
	if repo, err := open(t, system(t, fmt.Sprintf("[[registry]]\nlocation = %q\nblocked = true\n", r.address), r), repository); err == nil ||
		!strings.Contains(err.Error(), "is blocked in") {
		t.Errorf("blocked: %v, %v", repo, err)
	}

	conf = fmt.Sprintf("[[registry]]\nlocation = %q\n[[registry.mirror]]\nlocation = \"%s/copies\"\n", r.address, mirror.address)
	mirrored := mustOpen(t, system(t, conf, r, mirror), repository)
	if n, _, err := find(mirrored, m); n != 3 || err != nil || len(mirror.asked) != 1 {
		t.Errorf("of an empty mirror: %d, %v; it was asked for %q", n, err, mirror.asked)
	}
	here := pushImage(t, mirror.address+"/copies/org/app", remote.WithTransport(mirror.Client().Transport))
	if _, err := mustOpen(t, system(t, "", mirror), mirror.address+"/copies/org/app").Push(t.Context(), sign(t, here, key), here); err != nil {
		t.Fatal(err)
	}
	if n, _, err := find(mirrored, here); n != 1 || err != nil {
		t.Errorf("of a mirror: %d, %v", n, err)
	}
	mirror.Close()
	if n, ignored, err := find(mirrored, m); n != 3 || err != nil || len(ignored) != 1 {
		t.Errorf("of a mirror that is down: %d, %v, %v", n, ignored, err)
	}
}

// TestNoPlainHTTP: credentials go to no server without TLS, even if it has a private address.
func TestNoPlainHTTP(t *testing.T) {
	asked := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	t.Cleanup(server.Close)
	sys := system(t, "")
	sys.DockerAuthConfig = &types.DockerAuthConfig{Username: "u", Password: "p"}
	_, _, err := mustOpen(t, sys, strings.TrimPrefix(server.URL, "http://")+"/app").Find(t.Context(), "sha256:"+strings.Repeat("a", 64), nil)
	if err == nil || !strings.Contains(err.Error(), "plain HTTP is not allowed") || asked {
		t.Errorf("%v; asked: %t", err, asked)
	}
}
