package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// line is what Kata 4.1.0's runtime-rs prints.
const line = "Kata Containers containerd shim (Rust): id: io.containerd.kata.v2, version: 4.1.0, commit: 0123"

// layOut makes an installation whose shim of runtime-rs prints a line.
func layOut(t *testing.T, line string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"runtime-rs/bin/containerd-shim-kata-v2": "#!/bin/sh\necho '" + line + "'\n",
		"bin/qemu":                               "",
		"share/vmlinux":                          "",
		places[0].config: "[hypervisor.qemu]\npath = '" + dir + "/bin/qemu'\nkernel = '" + dir + "/share/vmlinux'\n" +
			"shared_fs = 'virtio-fs'\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFind(t *testing.T) {
	dir := layOut(t, line)
	found, err := Find(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	want := Runtime{Rust, "4.1.0", line, filepath.Join(dir, places[0].shim), filepath.Join(dir, places[0].config)}
	if len(found) != 1 || found[0] != want {
		t.Errorf("%+v, want %+v", found, want)
	}
	if err := os.Remove(filepath.Join(dir, "share/vmlinux")); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "share/vmlinux") {
		t.Errorf("without the guest's kernel: %v", err)
	}
}

func TestFindRefuses(t *testing.T) {
	for name, line := range map[string]string{
		"containerd's":  "containerd-shim-runc-v2: version v2",
		"the other one": strings.Replace(line, "Rust", "Golang", 1),
	} {
		if found, err := Find(t.Context(), layOut(t, line)); err == nil {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

func TestPrivateConfig(t *testing.T) {
	dir := layOut(t, line)
	r := Runtime{Kind: Rust, Config: filepath.Join(dir, places[0].config)}
	config, err := r.PrivateConfig(t.TempDir(), 512, "[runtime]\nenable_debug = true")
	if err != nil {
		t.Fatal(err)
	}
	dropIns, err := filepath.Glob(filepath.Join(filepath.Dir(config), "config.d/*.toml"))
	if err != nil || len(dropIns) != 2 {
		t.Fatalf("%q, %v", dropIns, err)
	}
	for _, file := range append(dropIns, config) {
		var any map[string]any
		if _, err := toml.DecodeFile(file, &any); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
