package manifests_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	butane "github.com/coreos/butane/config"
	"github.com/coreos/butane/config/common"
	"github.com/coreos/ignition/v2/config/v3_5"
	"github.com/coreos/ignition/v2/config/v3_5/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	machineconfig "github.com/openshift/api/machineconfiguration/v1"
	"github.com/vincent-petithory/dataurl"
)

var update = flag.Bool("update", false, "write the MachineConfigs anew from their Butane sources")

// machineConfigs returns the MachineConfigs of contrib/openshift.
func machineConfigs(t *testing.T) map[string]*machineconfig.MachineConfig {
	t.Helper()
	configs := map[string]*machineconfig.MachineConfig{}
	for _, o := range objects(t, "openshift") {
		if c, ok := o.value.(*machineconfig.MachineConfig); ok {
			configs[filepath.Base(o.file)] = c
		}
	}
	return configs
}

// TestButane translates each Butane source and wants the MachineConfig that is beside it, without a warning.
func TestButane(t *testing.T) {
	sources, err := filepath.Glob(contrib + "/openshift/*.bu")
	if err != nil || len(sources) == 0 {
		t.Fatal("no Butane source", err)
	}
	for _, source := range sources {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		options := common.TranslateBytesOptions{}
		options.FilesDir = contrib + "/openshift/files"
		result, report, err := butane.TranslateBytes(text, options)
		if err != nil || len(report.Entries) > 0 {
			t.Fatalf("butane --strict %s: %v\n%s", source, err, report.String())
		}
		path := strings.TrimSuffix(source, ".bu") + ".yaml"
		if *update {
			if err := os.WriteFile(path, result, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, result) {
			t.Errorf("%s is not what butane makes of %s: go test . -update", path, filepath.Base(source))
		}
	}
}

// ignition parses the Ignition configuration in a MachineConfig. What Ignition would warn of is a failure.
func ignition(t *testing.T, name string, c *machineconfig.MachineConfig) types.Config {
	t.Helper()
	config, report, err := v3_5.ParseCompatibleVersion(c.Spec.Config.Raw)
	if err != nil || len(report.Entries) > 0 {
		t.Fatalf("%s: %v\n%s", name, err, report.String())
	}
	return config
}

// ownedByMCO are the files that the Machine Config Operator writes itself (openshift/machine-config-operator,
// pkg/controller/container-runtime-config/helpers.go and templates/).
var ownedByMCO = regexp.MustCompile(`^/etc/containers/(storage|registries)\.conf|^/etc/crio/crio\.conf\.d/0[01]-`)

// TestMachineConfig wants each file's content to be that of its source, and none to be in the operator's way. The
// operator refuses links and directories (pkg/daemon/update.go, "reconcilable").
func TestMachineConfig(t *testing.T) {
	files := 0
	for name, c := range machineConfigs(t) {
		if c.Labels["machineconfiguration.openshift.io/role"] != "kata-oc" {
			t.Errorf("%s is for %v, not for the pool of Kata", name, c.Labels)
		}
		if len(c.Spec.Config.Raw) == 0 {
			continue
		}
		config := ignition(t, name, c)
		if len(config.Storage.Links) > 0 || len(config.Storage.Directories) > 0 {
			t.Errorf("%s has links or directories, which the operator refuses", name)
		}
		for _, f := range config.Storage.Files {
			files++
			if ownedByMCO.MatchString(f.Path) {
				t.Errorf("%s writes %s, which is the operator's", name, f.Path)
			}
			content, err := dataurl.DecodeString(*f.Contents.Source)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(contrib + "/openshift/files/" + filepath.Base(f.Path))
			if err != nil {
				t.Fatal(err)
			}
			if got := inflate(t, content.Data, f.Contents.Compression); !bytes.Equal(got, want) {
				t.Errorf("%s: %s has\n%s", name, f.Path, got)
			}
		}
	}
	if entries, err := os.ReadDir(contrib + "/openshift/files"); err != nil || len(entries) != files {
		t.Errorf("%d files in MachineConfigs, %d in contrib/openshift/files (%v)", files, len(entries), err)
	}
}

// TestMachineOSConfig checks what the API server checks by rules that are not in the Go types
// (types_machineosconfig.go), and that the cluster builds what contrib/openshift/Containerfile does.
func TestMachineOSConfig(t *testing.T) {
	pushSpec := regexp.MustCompile(`^([a-zA-Z0-9-]+\.)+[a-zA-Z0-9-]+(:[0-9]{2,5})?(/[a-zA-Z0-9-_]{1,61})*/[a-zA-Z0-9-_.]+:[a-zA-Z0-9._-]+$`)
	found := false
	for _, o := range objects(t, "openshift") {
		c, ok := o.value.(*machineconfig.MachineOSConfig)
		if !ok {
			continue
		}
		found = true
		if c.Name != c.Spec.MachineConfigPool.Name {
			t.Errorf("%s: its name is not the pool's", o.file)
		}
		if c.Spec.ImageBuilder.ImageBuilderType != machineconfig.JobBuilder ||
			!pushSpec.MatchString(string(c.Spec.RenderedImagePushSpec)) || c.Spec.RenderedImagePushSecret.Name == "" {
			t.Errorf("%s: the API server refuses %+v", o.file, c.Spec)
		}
		if len(c.Spec.Containerfile) != 1 || len(c.Spec.Containerfile[0].Content) > 4096 {
			t.Fatalf("%s: not one Containerfile of at most 4096 characters", o.file)
		}
		outside := readFile(t, contrib+"/openshift/Containerfile")
		inside := c.Spec.Containerfile[0].Content
		const last = " AS final\n"
		if _, steps, _ := strings.Cut(outside, last); !strings.HasSuffix(inside, "FROM configs"+last+steps) {
			t.Errorf("%s does other things than contrib/openshift/Containerfile", o.file)
		}
		containerfile(t, o.file, inside)
	}
	if !found {
		t.Error("no MachineOSConfig")
	}
}

// TestContainerfiles parses them as a builder does, and looks for the files that they copy out of the repository.
func TestContainerfiles(t *testing.T) {
	for _, name := range []string{"kubernetes/Containerfile", "openshift/Containerfile"} {
		for _, stage := range containerfile(t, name, readFile(t, filepath.Join(contrib, name))) {
			for _, command := range stage.Commands {
				if c, ok := command.(*instructions.CopyCommand); ok && c.From == "" {
					for _, source := range c.SourcePaths {
						if _, err := os.Stat(filepath.Join(contrib, "..", source)); err != nil {
							t.Errorf("%s copies %v", name, err)
						}
					}
				}
			}
		}
	}
}

func containerfile(t *testing.T, name, text string) []instructions.Stage {
	t.Helper()
	parsed, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(stages) < 2 || len(parsed.Warnings) > 0 {
		t.Errorf("%s has %d stages, warnings %v", name, len(stages), parsed.Warnings)
	}
	return stages
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
