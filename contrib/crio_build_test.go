package contrib_test

import (
	"debug/buildinfo"
	"strings"
	"testing"
)

// TestCRIOBuild looks into bin/crio for what it was built of.
func TestCRIOBuild(t *testing.T) {
	info, err := buildinfo.ReadFile(built(t, "crio"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "github.com/cri-o/cri-o/cmd/crio"; info.Path != want {
		t.Errorf("bin/crio is the program %s, want CRI-O's own %s", info.Path, want)
	}
	modules := map[string]string{info.Main.Path: info.Main.Version}
	for _, m := range info.Deps {
		modules[m.Path] = m.Version
	}
	// Later versions of the last two do not compile with CRI-O 1.34.0.
	for module, want := range map[string]string{
		"github.com/cri-o/cri-o": "v1.34.0", "github.com/containers/storage": "v1.58.0",
		"github.com/containers/image/v5": "v5.35.0",
	} {
		if modules[module] != want {
			t.Errorf("bin/crio has %s %q, want %s", module, modules[module], want)
		}
	}
	if _, ok := modules["github.com/crio-erofs/crio-erofs"]; !ok {
		t.Error("bin/crio does not have the driver")
	}
	for _, s := range info.Settings {
		if s.Key == "-tags" && !strings.Contains(s.Value, "graphdriver_erofs") {
			t.Errorf("bin/crio has the build tags %s", s.Value)
		}
	}
}
