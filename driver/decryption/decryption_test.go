package decryption

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/containers/ocicrypt"
	"github.com/containers/ocicrypt/config"
	keyproviders "github.com/containers/ocicrypt/config/keyprovider-config"
	graphdriver "github.com/containers/storage/drivers"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/crio-erofs/crio-erofs/driver"
)

// TestRefuse decrypts a layer with its key, before that is refused and after.
func TestRefuse(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	ec, err := config.EncryptWithJwe([][]byte{pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})})
	if err != nil {
		t.Fatal(err)
	}
	dc, err := config.DecryptWithPrivKeys([][]byte{private}, [][]byte{nil})
	if err != nil {
		t.Fatal(err)
	}
	layer := []byte("a layer")
	r, finish, err := ocicrypt.EncryptLayer(ec.EncryptConfig, bytes.NewReader(layer), imagespec.Descriptor{
		Digest: digest.FromBytes(layer), Size: int64(len(layer))})
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
	decrypt := func() (plain []byte, err error) {
		r, _, err := ocicrypt.DecryptLayer(dc.DecryptConfig, bytes.NewReader(encrypted),
			imagespec.Descriptor{Annotations: annotations}, false)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	}
	if plain, err := decrypt(); err != nil || !bytes.Equal(plain, layer) {
		t.Fatalf("%q, %v", plain, err)
	}
	refuse("not on this node")
	defer refusal.Store(nil)
	if plain, err := decrypt(); err == nil || !strings.Contains(err.Error(), "not on this node") {
		t.Errorf("decrypted %q, %v", plain, err)
	}
}

// TestAllSchemes counts the key wrappers that ocicrypt's source registers: a new one would be an open way.
func TestAllSchemes(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/containers/ocicrypt").Output()
	if err != nil {
		t.Skipf("go list: %v", err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "encryption.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`\tRegisterKeyWrapper\(("[a-z0-9.]+")`).FindAllStringSubmatch(string(source), -1)
	var schemes []string
	for _, m := range found {
		schemes = append(schemes, strings.Trim(m[1], `"`))
	}
	if want := fmt.Sprint(append(append([]string{}, builtIn...), "provider.")); fmt.Sprint(schemes) != want {
		t.Errorf("ocicrypt registers %v, and this package knows %s", schemes, want)
	}
	for _, scheme := range builtIn {
		if _, ok := ocicrypt.GetKeyWrapper(scheme).(gate); !ok {
			t.Errorf("%s is not gated", scheme)
		}
	}
}

const envInProvider = "CRIO_EROFS_TEST_PROVIDER"

// TestKeyProvider looks at a process that has a key provider configured, which ocicrypt knows at its start only.
func TestKeyProvider(t *testing.T) {
	if os.Getenv(envInProvider) != "" {
		if _, ok := ocicrypt.GetKeyWrapper("provider.kbs").(gate); !ok {
			t.Error("the key provider is not gated")
		}
		return
	}
	file := filepath.Join(t.TempDir(), "ocicrypt.json")
	if err := os.WriteFile(file, []byte(`{"key-providers": {"kbs": {"cmd": {"path": "/bin/true"}}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKeyProvider$", "-test.v")
	cmd.Env = append(os.Environ(), envInProvider+"=1", keyproviders.ENVVARNAME+"="+file)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestRegistered: the driver's Init finds this package.
func TestRegistered(t *testing.T) {
	defer refusal.Store(nil)
	for option, refused := range map[string]bool{"allow": false, "refuse": true} {
		refusal.Store(nil)
		// Fails, since there cannot be a store; the options come first.
		if _, err := driver.Init("/dev/null/store", graphOptions("erofs.decrypted_layers="+option)); err == nil {
			t.Fatal("a store in /dev/null")
		}
		if (refusal.Load() != nil) != refused {
			t.Errorf("%s: %v", option, refusal.Load())
		}
	}
}

func graphOptions(options ...string) graphdriver.Options {
	return graphdriver.Options{DriverOptions: options}
}
