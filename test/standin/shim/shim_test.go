package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
)

func TestParseArgs(t *testing.T) {
	base := []string{"-namespace", "default", "-address", "", "-publish-binary", "/usr/bin/crio", "-id", "c1"}
	for name, test := range map[string]struct {
		argv   []string
		action Action // "" for an error
	}{
		"start as CRI-O does":   {append(base[:8:8], "start"), ActionStart},
		"with debug":            {append(base[:8:8], "-debug", "start"), ActionStart},
		"delete":                {append(base[:8:8], "-bundle", "/b", "delete"), ActionDelete},
		"run":                   {base, ActionRun},
		"version":               {[]string{"--version"}, ActionVersion},
		"v":                     {[]string{"-v"}, ActionVersion},
		"info":                  {[]string{"-info"}, ActionInfo},
		"help":                  {[]string{"-h"}, ActionHelp},
		"features":              {[]string{"features"}, ""},
		"no id":                 {[]string{"-namespace", "default", "-publish-binary", "x", "start"}, ""},
		"unknown flag":          {append(base[:8:8], "-x", "start"), ""},
		"something after start": {append(base[:8:8], "start", "now"), ""},
	} {
		action, args, err := ParseArgs(test.argv)
		if action != test.action || (err == nil) != (test.action != "") {
			t.Errorf("%s: %q, %v", name, action, err)
		}
		if action == ActionStart && (args.ID != "c1" || args.Namespace != "default" || args.Bundle == "") {
			t.Errorf("%s: %+v", name, args)
		}
	}
}

func TestSandboxOf(t *testing.T) {
	for name, test := range map[string]struct {
		annotations map[string]string
		want        string
	}{
		"none":          {nil, "me"},
		"CRI-O sandbox": {map[string]string{"io.kubernetes.cri-o.ContainerType": "sandbox"}, "me"},
		"CRI-O container": {map[string]string{"io.kubernetes.cri-o.ContainerType": "container",
			"io.kubernetes.cri-o.SandboxID": "pod"}, "pod"},
		"containerd": {map[string]string{"io.kubernetes.cri.container-type": "container",
			"io.kubernetes.cri.sandbox-id": "pod"}, "pod"},
		"CRI-O's first": {map[string]string{"io.kubernetes.cri-o.ContainerType": "sandbox",
			"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "pod"}, "me"},
		"no sandbox id": {map[string]string{"io.kubernetes.cri-o.ContainerType": "container"}, ""},
	} {
		got, err := sandboxOf(&specs.Spec{Annotations: test.annotations}, "me")
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestSocketPath(t *testing.T) {
	t.Setenv(EnvRoot, "/run/x")
	a, err := socketPath(strings.Repeat("a", 64))
	if err != nil || len(a) > 60 {
		t.Errorf("%q, %v", a, err)
	}
	if b, _ := socketPath("b"); a == b {
		t.Error("two sandboxes have one socket")
	}
	t.Setenv(EnvRoot, "/"+strings.Repeat("x", 100))
	if _, err := socketPath("a"); err == nil || !strings.Contains(err.Error(), EnvRoot) {
		t.Errorf("a path that is too long: %v", err)
	}
}

func TestStartErrors(t *testing.T) {
	t.Setenv(EnvRoot, filepath.Join(t.TempDir(), "run"))
	bundle := t.TempDir()
	if _, err := Start(&Args{ID: "x", Bundle: bundle}); err == nil {
		t.Error("start without config.json succeeded")
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(`{"process":{}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(&Args{ID: "x", Bundle: bundle}); err == nil || !strings.Contains(err.Error(), "no root") {
		t.Errorf("start without root: %v", err)
	}
	if _, err := os.Stat(Root()); !os.IsNotExist(err) {
		t.Errorf("something was left: %v", err)
	}
}

func TestRuntimeInfo(t *testing.T) {
	b, err := RuntimeInfo()
	if err != nil {
		t.Fatal(err)
	}
	info := &types.RuntimeInfo{}
	err = proto.Unmarshal(b, info)
	if err != nil || info.Annotations["containerd.io/runtime-allow-mounts"] != "mkdir/*,format/*,erofs" {
		t.Errorf("%v, %v", info, err)
	}
}
