package contrib_test

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// runtimes is a CRI-O drop-in, of whose handlers all keys count.
type runtimes struct {
	Crio struct {
		StorageDriver string   `toml:"storage_driver"`
		StorageOption []string `toml:"storage_option"`
		NRI           struct {
			Dir string `toml:"nri_plugin_dir"`
		} `toml:"nri"`
		Runtime struct {
			Runtimes map[string]map[string]any `toml:"runtimes"`
		} `toml:"runtime"`
	} `toml:"crio"`
}

func decodeRuntimes(t *testing.T, text string) runtimes {
	t.Helper()
	var r runtimes
	if _, err := toml.Decode(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestNode checks the drop-in of crio.service that the DaemonSet installs: it names the storage driver, and arguments that
// CRI-O takes. The drop-in for CRI-O beside it must not name a driver, with which a node's own CRI-O would not start.
func TestNode(t *testing.T) {
	if handlers := decodeRuntimes(t, readFile(t, "crio.conf.d/60-kata-erofs.conf")); handlers.Crio.StorageDriver != "" {
		t.Error("60-kata-erofs.conf names a storage driver")
	}
	if strings.Contains(readFile(t, "kubernetes/node/payload.sh"), "/60-erofs.conf") {
		t.Error("the installer has the drop-in that names the driver")
	}
	service := strings.ReplaceAll(readFile(t, "kubernetes/node/crio.service.d/10-erofs.conf"), "\\\n", "")
	_, exec, _ := strings.Cut(service, "ExecStart=\nExecStart=")
	_, environment, _ := strings.Cut(service, "EROFS_STORAGE_OPTIONS=")
	exec, _, _ = strings.Cut(exec, "\n")
	environment, _, _ = strings.Cut(environment, "\"\n")
	var flags, options []string
	for _, field := range strings.Fields(exec)[1:] {
		switch {
		case field == "$EROFS_STORAGE_OPTIONS":
			flags = append(flags, strings.Fields(environment)...)
		case !strings.HasPrefix(field, "$"):
			flags = append(flags, field)
		}
	}
	for _, flag := range flags {
		if option, ok := strings.CutPrefix(flag, "--storage-opt="); ok {
			options = append(options, option)
		}
	}
	got := crioConfigOf[runtimes](t, "crio.conf.d", flags...)
	if got.Crio.StorageDriver != "erofs" || len(options) == 0 || !slices.Equal(got.Crio.StorageOption, options) {
		t.Errorf("with %v CRI-O has the driver %q with %v", flags, got.Crio.StorageDriver, got.Crio.StorageOption)
	}
}

// TestOpenShift has CRI-O read the drop-ins of the image and of the MachineConfig together with one of the Machine Config
// Operator's, and ties the handlers to RuntimeClasses, to crio-erofs's configuration, and to the shims in the image.
func TestOpenShift(t *testing.T) {
	dir := t.TempDir()
	handlers := decodeRuntimes(t, readFile(t, "openshift/files/60-kata-erofs.conf")).Crio.Runtime.Runtimes
	image := readFile(t, "openshift/image/etc/crio/crio.conf.d/60-erofs.conf")
	for name, text := range map[string]string{
		"00-default":         "[crio]\nstorage_driver = \"overlay\"\n",
		"60-erofs.conf":      image,
		"60-kata-erofs.conf": readFile(t, "openshift/files/60-kata-erofs.conf"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, want := crioConfigOf[runtimes](t, dir).Crio, decodeRuntimes(t, image).Crio
	if got.StorageDriver != "erofs" || !slices.Equal(got.StorageOption, want.StorageOption) || got.NRI != want.NRI {
		t.Errorf("CRI-O understands the drop-ins as %+v, want %+v", got, want)
	}
	config, err := modes.Parse("config.toml", []byte(readFile(t, "openshift/files/config.toml")))
	if err != nil {
		t.Fatal(err)
	}
	if names := slices.Sorted(maps.Keys(handlers)); !slices.Equal(names, slices.Sorted(maps.Keys(config.Handlers))) {
		t.Errorf("CRI-O has the handlers %v, config.toml %v", names, config.Handlers)
	}
	classes := 0
	decodeYAML(t, "openshift/runtimeclass.yaml", func(class runtimeClass) {
		classes++
		path, _ := handlers[class.Handler]["runtime_path"].(string)
		if path != "/usr/bin/containerd-shim-"+class.Handler+"-v2" {
			t.Errorf("handler %q has the shim %q", class.Handler, path)
		}
		shim := filepath.Base(path)
		if shim != "containerd-shim-kata-erofs-v2" && !strings.Contains(readFile(t, "openshift/Containerfile"), shim) {
			t.Errorf("the image has no %s", path)
		}
	})
	if classes != len(handlers) {
		t.Errorf("%d RuntimeClasses for %d handlers", classes, len(handlers))
	}
}

// TestSELinux compiles the module together with declarations of what it takes from the system's policy.
func TestSELinux(t *testing.T) {
	secilc, err := exec.LookPath("secilc")
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	contexts := filepath.Join(t.TempDir(), "contexts")
	cmd := exec.Command(secilc, "-o", filepath.Join(t.TempDir(), "policy"), "-f", contexts,
		"testdata/selinux-base.cil", "selinux/crio-erofs.cil")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text := readFile(t, contexts)
	for _, want := range []string{
		"/var/lib/containers/storage/erofs(/.*)?\tsystem_u:object_r:container_ro_file_t:s0",
		"rwlayer\\.img\t--\tsystem_u:object_r:container_file_t:s0",
		"/mounts/[^/]+/.*\t<<none>>",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q among the file contexts:\n%s", want, text)
		}
	}
}
