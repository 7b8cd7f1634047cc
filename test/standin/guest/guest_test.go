package guest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func cacheDir() string {
	if dir := os.Getenv(EnvDir); dir != "" {
		return dir
	}
	return "../../../.cache/guest"
}

// TestInitrd lets cpio read what Build made, and checks that no module comes before one it depends on.
func TestInitrd(t *testing.T) {
	for _, tool := range []string{"apt-get", "dpkg-deb", "cpio"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s (Debian packages apt, dpkg, cpio)", tool)
		}
	}
	files, err := Build(t.Context(), cacheDir(), ".")
	if err != nil {
		t.Fatal(err)
	}
	initrd, err := os.Open(files.Initrd)
	if err != nil {
		t.Fatal(err)
	}
	defer initrd.Close()
	dir := t.TempDir()
	cmd := exec.Command("cpio", "-i", "--quiet", "--no-absolute-filenames")
	cmd.Stdin, cmd.Dir = initrd, dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	if fi, err := os.Stat(filepath.Join(dir, "init")); err != nil || fi.Mode() != 0o755 || fi.Size() < 1<<20 {
		t.Errorf("init: %v, %v", fi, err)
	}
	checkOrder(t, filepath.Join(dir, "modules"))
}

func checkOrder(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "order"))
	if err != nil {
		t.Fatal(err)
	}
	order := strings.Fields(string(text))
	for i, name := range order {
		data, err := os.ReadFile(filepath.Join(dir, name+".ko"))
		if err != nil {
			t.Fatal(err)
		}
		deps, err := dependencies(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, dep := range deps {
			// One that is nowhere in the list is built in.
			if at := slices.Index(order, moduleName(dep)); at > i {
				t.Errorf("module %s is loaded before %s, which it depends on", name, dep)
			}
		}
	}
	for _, name := range []string{"dm_verity", "erofs", "overlay"} { // modules in all Debian cloud kernels
		if !slices.Contains(order, name) {
			t.Errorf("module %s is missing from %q", name, order)
		}
	}
}

// TestReproducible: the same parts make the same initrd.
func TestReproducible(t *testing.T) {
	modules := []module{{"a", []byte("123")}, {"b", []byte("4")}}
	var one, two bytes.Buffer
	for _, w := range []*bytes.Buffer{&one, &two} {
		if err := writeInitrd(w, []byte("init"), modules); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("two initrds differ")
	}
	if one.Len()%4 != 0 {
		t.Errorf("%d bytes, not a multiple of 4", one.Len())
	}
}

func TestFind(t *testing.T) {
	t.Setenv(EnvDir, t.TempDir())
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "build-guest") {
		t.Errorf("a guest in an empty directory: %v", err)
	}
}
