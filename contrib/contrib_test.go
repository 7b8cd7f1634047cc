// Package contrib_test reads the samples the way the programs do that they are for.
package contrib_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/containers/storage/types"
	"gopkg.in/yaml.v3"

	"github.com/crio-erofs/crio-erofs/hooks/nriconf"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// crioConfig is what "crio config" prints, as far as our drop-in sets it.
type crioConfig struct {
	Crio struct {
		StorageDriver string   `toml:"storage_driver"`
		StorageOption []string `toml:"storage_option"`
		NRI           struct {
			EnableNRI *bool `toml:"enable_nri"`
		} `toml:"nri"`
		Runtime struct {
			Runtimes map[string]struct {
				RuntimePath string `toml:"runtime_path"`
				RuntimeType string `toml:"runtime_type"`
				RuntimeRoot string `toml:"runtime_root"`
				Privileged  bool   `toml:"privileged_without_host_devices"`
			} `toml:"runtimes"`
		} `toml:"runtime"`
	} `toml:"crio"`
}

// readDropIns reads both drop-ins, neither of which sets what the other does.
func readDropIns(t *testing.T) crioConfig {
	t.Helper()
	var config crioConfig
	seen := map[string]string{}
	for _, name := range []string{"60-erofs.conf", "60-kata-erofs.conf"} {
		meta, err := toml.DecodeFile("crio.conf.d/"+name, &config)
		if err != nil {
			t.Fatal(err)
		}
		if keys := meta.Undecoded(); len(keys) > 0 {
			t.Errorf("the test does not know the keys %v: add them, with their types", keys)
		}
		for _, key := range meta.Keys() {
			if other, ok := seen[key.String()]; ok && meta.Type(key...) != "Hash" {
				t.Errorf("%s is in %s and in %s", key, other, name)
			}
			seen[key.String()] = name
		}
	}
	return config
}

// TestCRIO has CRI-O itself read the drop-ins.
func TestCRIO(t *testing.T) {
	sample := readDropIns(t)
	merged := crioConfigOf[crioConfig](t, "crio.conf.d")
	want, got := sample.Crio, merged.Crio
	// "crio config" prints what is as by default, as NRI is, in comments only.
	nriIsOn := *want.NRI.EnableNRI && (got.NRI.EnableNRI == nil || *got.NRI.EnableNRI)
	if got.StorageDriver != want.StorageDriver || !slices.Equal(got.StorageOption, want.StorageOption) ||
		!nriIsOn || got.Runtime.Runtimes["kata-erofs"] != want.Runtime.Runtimes["kata-erofs"] {
		t.Errorf("CRI-O understands the drop-in as %+v, want %+v", got, want)
	}
}

// runtimeClass is Kubernetes's, as far as the samples set it.
type runtimeClass struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Handler    string
	Overhead   struct {
		PodFixed map[string]string `yaml:"podFixed"`
	}
	Scheduling struct {
		NodeSelector map[string]string `yaml:"nodeSelector"`
	}
}

// TestKubernetes checks the names that tie RuntimeClasses to CRI-O and to crio-erofs's configuration, and the pod to a
// RuntimeClass.
func TestKubernetes(t *testing.T) {
	sample := readDropIns(t)
	config, err := modes.Parse("config/config.toml", []byte(readFile(t, "config/config.toml")))
	if err != nil {
		t.Fatal(err)
	}
	classes := map[string]bool{}
	decodeYAML(t, "kubernetes/runtimeclass.yaml", func(class runtimeClass) {
		if class.APIVersion != "node.k8s.io/v1" || class.Kind != "RuntimeClass" || class.Metadata.Name != class.Handler {
			t.Errorf("runtimeclass.yaml has %+v", class)
		}
		shim := sample.Crio.Runtime.Runtimes[class.Handler].RuntimePath
		if filepath.Base(shim) != "containerd-shim-"+class.Handler+"-v2" {
			t.Errorf("60-kata-erofs.conf has handler %q with the shim %q", class.Handler, shim)
		}
		if _, ok := config.Handlers[class.Handler]; !ok {
			t.Errorf("config.toml has no handler %q", class.Handler)
		}
		classes[class.Metadata.Name] = true
	})
	if n := len(sample.Crio.Runtime.Runtimes); len(classes) != n || len(config.Handlers) != n {
		t.Errorf("CRI-O has %d handlers, config.toml %d, Kubernetes %v", n, len(config.Handlers), classes)
	}
	type pod struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct{ Name string }
		Spec       struct {
			RuntimeClassName string `yaml:"runtimeClassName"`
			RestartPolicy    string `yaml:"restartPolicy"`
			Containers       []struct {
				Name    string
				Image   string
				Command []string
			}
		}
	}
	decodeYAML(t, "kubernetes/pod.yaml", func(p pod) {
		if !classes[p.Spec.RuntimeClassName] {
			t.Errorf("the pod's class is %q, there are %v", p.Spec.RuntimeClassName, classes)
		}
	})
}

// decodeYAML decodes every document of a file. A field that T does not have is an error.
func decodeYAML[T any](t *testing.T, path string, use func(T)) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(readFile(t, path)))
	d.KnownFields(true)
	for {
		var document T
		if err := d.Decode(&document); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		use(document)
	}
}

// TestNRI decodes the plugin's configuration, and checks that its name is the plugin's.
func TestNRI(t *testing.T) {
	content := readFile(t, "nri/conf.d/"+nriconf.PluginIndex+"-"+nriconf.PluginName+".conf")
	d := json.NewDecoder(strings.NewReader(content))
	d.DisallowUnknownFields()
	var config nriconf.Settings
	if err := d.Decode(&config); err != nil {
		t.Fatal(err)
	}
	if config.LogLevel == "" {
		t.Error("the sample sets no log level")
	}
}

// TestStorage has containers/storage read storage.conf.
func TestStorage(t *testing.T) {
	var options types.StoreOptions
	if err := types.ReloadConfigurationFile("storage/storage.conf", &options); err != nil {
		t.Fatal(err)
	}
	if options.GraphDriverName != "erofs" || !strings.HasPrefix(options.GraphRoot, "/var/lib/") {
		t.Errorf("containers/storage understands it as %+v", options)
	}
}

// TestSystemd runs the command of the service's drop-in.
func TestSystemd(t *testing.T) {
	command := ""
	for line := range strings.Lines(readFile(t, "systemd/crio.service.d/10-erofs.conf")) {
		if value, found := strings.CutPrefix(line, "ExecStartPre=-"); found {
			command = strings.TrimSpace(value)
		}
	}
	args := strings.Fields(command)
	if len(args) < 2 {
		t.Fatalf("the drop-in's command is %q", command)
	}
	cmd := exec.Command(built(t, filepath.Base(args[0])), args[1:]...)
	cmd.Env = append(os.Environ(), "CRIO_EROFS_RUN_DIR="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v: %s", command, err, out)
	}
}
