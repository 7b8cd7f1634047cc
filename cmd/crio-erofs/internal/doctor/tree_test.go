package doctor_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/doctor"
	"github.com/crio-erofs/crio-erofs/test/env"
)

// installed makes the tree that an image for nodes has, of the very files of contrib and bin.
func installed(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	source, err := env.Root()
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		"bin/crio":                                 "usr/local/bin/crio",
		"bin/crio-erofs-hook":                      "usr/local/bin/crio-erofs-hook",
		"bin/containerd-shim-kata-erofs-v2":        "usr/local/bin/containerd-shim-kata-erofs-v2",
		"contrib/crio.conf.d/60-erofs.conf":        "etc/crio/crio.conf.d/60-erofs.conf",
		"contrib/crio.conf.d/60-kata-erofs.conf":   "etc/crio/crio.conf.d/60-kata-erofs.conf",
		"contrib/config/config.toml":               "etc/crio-erofs/config.toml",
		"contrib/hooks.d/60-crio-erofs-guard.json": "usr/share/containers/oci/hooks.d/60-crio-erofs-guard.json",
		"contrib/nri/conf.d/10-crio-erofs.conf":    "etc/nri/conf.d/10-crio-erofs.conf",
	} {
		if _, err := os.Stat(filepath.Join(source, from)); errors.Is(err, os.ErrNotExist) && strings.HasPrefix(from, "bin/") {
			t.Skipf("%s is not built (make build crio)", from)
		}
		copyFile(t, filepath.Join(source, from), filepath.Join(root, to))
	}
	for name, target := range map[string]string{
		"opt/nri/plugins/10-crio-erofs":                          "/usr/local/bin/crio-erofs-hook",
		"usr/local/bin/containerd-shim-kata-erofs-layer-v2":      "containerd-shim-kata-erofs-v2",
		"usr/local/bin/containerd-shim-kata-erofs-guest-pull-v2": "containerd-shim-kata-erofs-v2",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755),
			os.Symlink(target, filepath.Join(root, name))); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Link(from, to) == nil {
		return
	}
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fi.Mode().Perm())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

func examine(t *testing.T, root string) *doctor.Report {
	t.Helper()
	n, err := doctor.Open(t.Context(), doctor.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	return n.Examine(t.Context())
}

// TestTree looks at the tree of an installation, and at the same with one thing missing. The machine that it is looked at
// on has none of these files: the tree's links lead into the tree.
func TestTree(t *testing.T) {
	root := installed(t)
	r := examine(t, root)
	if r.State != doctor.Good || r.Root != root {
		t.Errorf("in order: %+v", r)
	}
	for _, f := range r.Findings {
		if f.Check == "kernel" || f.Check == "crio-running" || f.Check == "kata" || strings.Contains(f.Found+f.Subject+f.Mend, root) {
			t.Errorf("about this machine: %+v", f)
		}
	}
	for path, want := range map[string]string{
		"usr/local/bin/crio":                                        "no crio in /usr/local/bin/crio",
		"usr/local/bin/crio-erofs-hook":                             "/usr/share/containers/oci/hooks.d/60-crio-erofs-guard.json: stat /usr/",
		"usr/local/bin/containerd-shim-kata-erofs-v2":               "runtime_path: stat /usr/local/bin/containerd-shim-kata-erofs-v2",
		"usr/local/bin/containerd-shim-kata-erofs-guest-pull-v2":    "runtime_path: stat /usr/local/bin/containerd-shim-kata-erofs-gu",
		"etc/crio/crio.conf.d/60-erofs.conf":                        `CRI-O's storage driver is ""`,
		"etc/crio/crio.conf.d/60-kata-erofs.conf":                   "CRI-O has no handler of crio-erofs",
		"opt/nri/plugins/10-crio-erofs":                             "/opt/nri/plugins has no plugin",
		"usr/share/containers/oci/hooks.d/60-crio-erofs-guard.json": "no guard in /usr/share/containers/oci/hooks.d",
	} {
		away := filepath.Join(root, "away")
		if err := os.Rename(filepath.Join(root, path), away); err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range examine(t, root).Findings {
			found = found || f.State != doctor.Good && f.Mend != "" && strings.Contains(f.Found, want)
		}
		if !found {
			t.Errorf("without %s: nothing found with %q: %+v", path, want, examine(t, root).Findings)
		}
		if err := os.Rename(away, filepath.Join(root, path)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOtherPrograms has programs that are not what their names say.
func TestOtherPrograms(t *testing.T) {
	root := installed(t)
	for path, want := range map[string]string{
		"usr/local/bin/crio":                          "is not CRI-O, but github.com/crio-erofs/crio-erofs/cmd/crio-erofs-hook",
		"usr/local/bin/containerd-shim-kata-erofs-v2": "is not the shim of crio-erofs",
	} {
		path = filepath.Join(root, path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		copyFile(t, filepath.Join(root, "usr/local/bin/crio-erofs-hook"), path)
		found := false
		for _, f := range examine(t, root).Findings {
			found = found || f.State == doctor.Problem && strings.Contains(f.Found, want)
		}
		if !found {
			t.Errorf("nothing found with %q", want)
		}
	}
}

// TestDecryptionKeys has layers decrypted on the node, with and without keys for it.
func TestDecryptionKeys(t *testing.T) {
	root := installed(t)
	find := func() *doctor.Finding {
		for _, f := range examine(t, root).Findings {
			if f.Subject == "decryption" {
				return &f
			}
		}
		return nil
	}
	key := filepath.Join(root, "etc/keys/image.pem")
	if err := os.MkdirAll(filepath.Dir(key), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := find(); f != nil {
		t.Errorf("by default: %+v", f)
	}
	for dir, want := range map[string]doctor.State{"/etc/keys": doctor.Advice, "/etc/none": doctor.Good} {
		text := "[crio]\nstorage_option = [\"erofs.decrypted_layers=allow\"]\n[crio.runtime]\ndecryption_keys_path = \"" + dir + "\"\n"
		if err := os.WriteFile(filepath.Join(root, "etc/crio/crio.conf.d/90-keys.conf"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if f := find(); f == nil || f.State != want || !strings.Contains(f.Found, dir) || strings.Contains(f.Found, root) {
			t.Errorf("with keys in %s: %+v", dir, f)
		}
	}
}

func TestNoTree(t *testing.T) {
	if n, err := doctor.Open(t.Context(), doctor.Options{Root: "/none"}); err == nil {
		t.Errorf("got %+v", n)
	}
}
