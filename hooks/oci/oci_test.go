package oci_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/crio-erofs/crio-erofs/hooks/oci"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
	"github.com/crio-erofs/crio-erofs/kata/trust"
)

// bundle makes a bundle whose address file has this content; none if it is empty. SHIM stands for a directory that
// looks like the shim's, OTHER for one that does not.
func bundle(t *testing.T, address string, annotations map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	shim, other := filepath.Join(dir, "shim"), filepath.Join(dir, "other")
	for _, d := range []string{shim, other} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(shim, "state.json"), "{}")
	config, err := json.Marshal(specs.Spec{Annotations: annotations})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "config.json"), string(config))
	if address != "" {
		write(t, filepath.Join(dir, "address"), strings.NewReplacer("SHIM", shim, "OTHER", other).Replace(address))
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func state(dir string) string {
	b, err := json.Marshal(specs.State{Version: specs.Version, ID: "c1", Status: specs.StateCreating, Bundle: dir})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestGuard(t *testing.T) {
	const request, mode = kata.AnnotationRequest, kata.AnnotationMode
	for name, tt := range map[string]struct {
		address     string
		annotations map[string]string
		want        string // in the error; empty: the container may start
	}{
		"nothing asked":       {"", nil, ""},
		"shared asked":        {"", map[string]string{request: "shared-fs"}, ""},
		"shared chosen":       {"", map[string]string{mode: "shared-fs"}, ""},
		"empty request":       {"", map[string]string{request: ""}, ""},
		"guest pull chosen":   {"", map[string]string{mode: "guest-pull"}, ""}, // the runtime's own business
		"met":                 {"unix://SHIM/sock", map[string]string{request: "layer", mode: "layer-verity"}, ""},
		"met, with a newline": {"unix://SHIM/sock\n", map[string]string{mode: "image-verity"}, ""},
		"under runc": {"", map[string]string{request: "image-verity"}, "container c1 asks for mode image-verity, but its " +
			"runtime is not crio-erofs's shim (no shim has left its address in the bundle): it would get a directory of"},
		"guest pull under runc": {"", map[string]string{request: "guest-pull"}, "asks for mode guest-pull, but its runtime"},
		"chosen, under runc":    {"", map[string]string{mode: "layer"}, "asks for mode layer, but its runtime is not"},
		"Kata's own shim": {"unix://OTHER/sock", map[string]string{mode: "layer-verity"},
			"/other/state.json is not there"},
		"another socket": {"unix://SHIM/other", map[string]string{mode: "layer-verity"}, "names another shim, at"},
		"abstract":       {"SHIM/sock", map[string]string{mode: "layer-verity"}, "names another shim, at"},
		"relative":       {"unix://sock", map[string]string{mode: "layer-verity"}, "names another shim, at"},
		"not annotated": {"unix://SHIM/sock", map[string]string{request: "layer"},
			`asks for mode layer and has mode "": is the NRI plugin crio-erofs-hook running?`},
		"less than asked": {"unix://SHIM/sock", map[string]string{request: "layer-verity", mode: "layer"},
			`asks for mode layer-verity and has mode "layer"`},
		"unknown": {"unix://SHIM/sock", map[string]string{request: "best"}, `annotation io.katacontainers.erofs.request: ` +
			`mode "best" is unknown`},
	} {
		t.Run(name, func(t *testing.T) {
			err := oci.Guard(strings.NewReader(state(bundle(t, tt.address, tt.annotations))))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// What the guard cannot read is no reason to let a container pass.
func TestGuardFailsClosed(t *testing.T) {
	good := bundle(t, "", nil)
	for name, tt := range map[string]struct{ state, want string }{
		"no state":        {"", "container's state on standard input: "},
		"no bundle":       {"{}", `bundle "" is not an absolute path`},
		"relative bundle": {`{"bundle":"b"}`, `bundle "b" is not an absolute path`},
		"bundle is gone":  {state(filepath.Join(good, "gone")), "container's configuration: "},
		"large":           {`{"bundle":"` + strings.Repeat("/a", 3<<20), "larger than 4194304 bytes"},
	} {
		if err := oci.Guard(strings.NewReader(tt.state)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	if err := oci.Guard(strings.NewReader(state(good))); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(good, "config.json")
	write(t, config, `{"annotations":{"a":1}}`)
	if err := oci.Guard(strings.NewReader(state(good))); err == nil {
		t.Error("a configuration that is not one was accepted")
	}
	os.Remove(config)
	if err := syscall.Mkfifo(config, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := oci.Guard(strings.NewReader(state(good))); err == nil || !strings.Contains(err.Error(), "not a regular") {
		t.Errorf("a pipe as configuration: %v", err)
	}
}

// Precreate leaves everything alone but the annotations.
func TestPrecreate(t *testing.T) {
	spec := &specs.Spec{
		Version: specs.Version, Root: &specs.Root{Path: "/store/merged", Readonly: true},
		Process: &specs.Process{Args: []string{"a", "<&>"}, Cwd: "/"}, Hostname: "h",
		Mounts:      []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
		Annotations: map[string]string{"io.katacontainers.volume.7": "x", "a": "b"},
	}
	config, err := modes.Parse("f", []byte("[handlers.kata-shared]\nmodes = [\"shared-fs\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	for handler, annotations := range map[string]map[string]string{
		"kata-shared": {"a": "b", kata.AnnotationMode: "shared-fs"},
		"runc":        {"a": "b"},
	} {
		in, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := oci.Precreate(t.Context(), bytes.NewReader(in), &out, config, trust.NextTo(""), handler); err != nil {
			t.Fatal(err)
		}
		var got specs.Spec
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(got.Annotations, annotations) {
			t.Errorf("%s: annotations %v, want %v", handler, got.Annotations, annotations)
		}
		got.Annotations = spec.Annotations
		if back, err := json.Marshal(got); err != nil || !bytes.Equal(back, in) {
			t.Errorf("%s: got %s, %v; want %s", handler, back, err, in)
		}
	}
}

func TestPrecreateRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"": "container's configuration on standard input: EOF", "[]": "container's configuration on standard input: ",
		"{}":                         "handler kata-erofs: image-verity, layer-verity are not possible: the rootfs is not",
		`{"root":{"path":"merged"}}`: `mount point "merged" is not an absolute path`,
	} {
		var out bytes.Buffer
		err := oci.Precreate(t.Context(), strings.NewReader(in), &out, &modes.Config{}, trust.NextTo(""), "kata-erofs")
		if err == nil || !strings.Contains(err.Error(), want) || out.Len() > 0 {
			t.Errorf("%s: got %v, want %q; wrote %q", in, err, want, &out)
		}
	}
}
