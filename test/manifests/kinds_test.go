package manifests_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	machineconfig "github.com/openshift/api/machineconfiguration/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	node "k8s.io/api/node/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

const contrib = "../../contrib"

// kataConfig is the operator's type as far as the sample goes (openshift/sandboxed-containers-operator,
// api/v1/kataconfig_types.go): its module is not to be had from Go's proxy.
type kataConfig struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	Spec            struct {
		KataConfigPoolSelector *meta.LabelSelector `json:"kataConfigPoolSelector"`
		CheckNodeEligibility   bool                `json:"checkNodeEligibility"`
		LogLevel               string              `json:"logLevel,omitempty"`
		EnablePeerPods         bool                `json:"enablePeerPods"`
	} `json:"spec"`
}

// kinds has the Go type of every kind of object that contrib has.
var kinds = map[string]func() any{
	"v1/Namespace":                                 func() any { return new(core.Namespace) },
	"v1/Pod":                                       func() any { return new(core.Pod) },
	"apps/v1/DaemonSet":                            func() any { return new(apps.DaemonSet) },
	"node.k8s.io/v1/RuntimeClass":                  func() any { return new(node.RuntimeClass) },
	openshift + "/v1/MachineConfig":                func() any { return new(machineconfig.MachineConfig) },
	openshift + "/v1/MachineOSConfig":              func() any { return new(machineconfig.MachineOSConfig) },
	"kataconfiguration.openshift.io/v1/KataConfig": func() any { return new(kataConfig) },
}

const openshift = "machineconfiguration.openshift.io"

// object is a decoded document of a YAML file.
type object struct {
	file  string
	value any
}

// objects decodes all YAML files below a directory of contrib. A field that the API's type does not have is an error,
// and so is one that is there twice.
func objects(t *testing.T, dir string) []object {
	t.Helper()
	var list []object
	err := filepath.WalkDir(filepath.Join(contrib, dir), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(path)) {
			return err
		}
		decoded, err := decode(path)
		list = append(list, decoded...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatalf("no YAML file below contrib/%s", dir)
	}
	return list
}

func decode(path string) ([]object, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []object
	documents := utilyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(content)))
	defer documents.Close()
	buf := make([]byte, len(content)+1)
	for {
		n, err := documents.Read(buf)
		if errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		var kind meta.TypeMeta
		if err := yaml.Unmarshal(buf[:n], &kind); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		make, ok := kinds[kind.APIVersion+"/"+kind.Kind]
		if !ok {
			return nil, fmt.Errorf("%s: the test does not know %s/%s: add its type", path, kind.APIVersion, kind.Kind)
		}
		value := make()
		if err := yaml.UnmarshalStrict(buf[:n], value); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, object{path, value})
	}
}

// TestKinds decodes every YAML file for clusters, and checks names and labels as the API server does.
func TestKinds(t *testing.T) {
	for _, o := range append(objects(t, "kubernetes"), objects(t, "openshift")...) {
		m, ok := o.value.(meta.Object)
		if !ok {
			t.Fatalf("%s: %T is no object", o.file, o.value)
		}
		if errs := validation.IsDNS1123Subdomain(m.GetName()); len(errs) > 0 {
			t.Errorf("%s: name %q: %v", o.file, m.GetName(), errs)
		}
		for key, value := range m.GetLabels() {
			if errs := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); len(errs) > 0 {
				t.Errorf("%s: label %s=%s: %v", o.file, key, value, errs)
			}
		}
	}
}

// TestRuntimeClasses checks each class's overhead, and that pods find a class.
func TestRuntimeClasses(t *testing.T) {
	for _, dir := range []string{"kubernetes", "openshift"} {
		classes := map[string]bool{}
		for _, o := range objects(t, dir) {
			if class, ok := o.value.(*node.RuntimeClass); ok {
				classes[class.Name] = true
				if class.Overhead == nil || class.Overhead.PodFixed.Memory().IsZero() || class.Overhead.PodFixed.Cpu().IsZero() {
					t.Errorf("%s: class %s has the overhead %v", o.file, class.Name, class.Overhead)
				}
				if class.Scheduling == nil || len(class.Scheduling.NodeSelector) != 1 {
					t.Errorf("%s: class %s is for any node", o.file, class.Name)
				}
				if errs := validation.IsDNS1123Label(class.Handler); len(errs) > 0 {
					t.Errorf("%s: handler %q: %v", o.file, class.Handler, errs)
				}
			}
		}
		for _, o := range objects(t, dir) {
			if pod, ok := o.value.(*core.Pod); ok {
				if name := pod.Spec.RuntimeClassName; name == nil || !classes[*name] {
					t.Errorf("%s: the pod's class is %v, there are %v", o.file, name, classes)
				}
			}
		}
	}
}

// TestDaemonSets checks what the API server would refuse, or accept and not do: that selectors select, that each mount has
// a volume and each volume a mount; and that installer and uninstaller see the same directories.
func TestDaemonSets(t *testing.T) {
	volumes := map[string][]core.Volume{}
	selectors := map[string]string{}
	for _, o := range objects(t, "kubernetes") {
		d, ok := o.value.(*apps.DaemonSet)
		if !ok {
			continue
		}
		pod := d.Spec.Template.Spec
		for key, value := range d.Spec.Selector.MatchLabels {
			if d.Spec.Template.Labels[key] != value {
				t.Errorf("%s: its own pods have not the label %s=%s", o.file, key, value)
			}
		}
		mounts := map[string]string{}
		for _, m := range pod.Containers[0].VolumeMounts {
			mounts[m.Name] = m.MountPath
		}
		for _, v := range pod.Volumes {
			if v.HostPath == nil || mounts[v.Name] != "/host"+v.HostPath.Path {
				t.Errorf("%s: volume %s is mounted on %s", o.file, v.Name, mounts[v.Name])
			}
		}
		if len(mounts) != len(pod.Volumes) {
			t.Errorf("%s: %d mounts of %d volumes", o.file, len(mounts), len(pod.Volumes))
		}
		security := pod.Containers[0].SecurityContext
		if security.Privileged != nil || pod.HostPID || pod.HostNetwork || security.Capabilities.Drop[0] != "ALL" {
			t.Errorf("%s: the pod may do more than write files", o.file)
		}
		volumes[d.Name], selectors[d.Name] = pod.Volumes, pod.NodeSelector["crio-erofs/install"]
	}
	if !reflect.DeepEqual(volumes["crio-erofs-installer"], volumes["crio-erofs-uninstaller"]) {
		t.Errorf("installer and uninstaller differ: %v", volumes)
	}
	if selectors["crio-erofs-installer"] != "true" || selectors["crio-erofs-uninstaller"] != "false" {
		t.Errorf("installer and uninstaller are on nodes with crio-erofs/install=%v", selectors)
	}
}

// TestUnknownField makes sure that the decoding is strict.
func TestUnknownField(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.yaml")
	content := "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: x}\nhandlr: x\n"
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := decode(path); err == nil || !strings.Contains(err.Error(), "handlr") {
		t.Errorf("a misspelt field: %v", err)
	}
}
