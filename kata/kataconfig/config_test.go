package kataconfig_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/kataconfig"
)

func ptr(s string) *string { return &s }

// TestLoad has the shapes of the files that Kata ships; keys of drop-ins replace those of the file one by one.
func TestLoad(t *testing.T) {
	const rs = `
[hypervisor.qemu]
path = "/opt/kata/bin/qemu-system-x86_64"
shared_fs = "none"
block_device_driver = "virtio-scsi"
disable_block_device_use = false
confidential_guest = true
[hypervisor.qemu.factory]
enable_template = false
[agent.kata]
kernel_modules = []
[runtime]
hypervisor_name = "qemu"
experimental = []
`
	const golang = `
[hypervisor.clh]
path = "/opt/kata/bin/cloud-hypervisor"
shared_fs = "virtio-fs"
disable_block_device_use = true
[runtime]
experimental = []
`
	for _, c := range []struct {
		name, main string
		dropIns    map[string]string
		want       kata.Target
	}{
		{"runtime-rs", rs, nil,
			kata.Target{Hypervisor: "qemu", SharedFS: ptr("none"), BlockDriver: "virtio-scsi", Confidential: true}},
		{"Go", golang, nil, kata.Target{Hypervisor: "clh", SharedFS: ptr("virtio-fs"), NoBlockDevices: true}},
		{"drop-ins in order", rs, map[string]string{
			"20-b": "[hypervisor.qemu]\nshared_fs = \"virtio-fs\"\n",
			"10-a": "[hypervisor.qemu]\nshared_fs = \"virtio-9p\"\nconfidential_guest = false\n",
		}, kata.Target{Hypervisor: "qemu", SharedFS: ptr("virtio-fs"), BlockDriver: "virtio-scsi"}},
		{"drop-in chooses", rs, map[string]string{
			"10-a": "[hypervisor.dragonball]\n[runtime]\nhypervisor_name = \"dragonball\"\n",
		}, kata.Target{Hypervisor: "dragonball"}},
		{"forced, runtime-rs", rs, map[string]string{"x": "[runtime]\nexperimental = [\"force_guest_pull\"]\n"},
			kata.Target{Hypervisor: "qemu", SharedFS: ptr("none"), BlockDriver: "virtio-scsi", Confidential: true,
				ForceGuestPull: true}},
		{"forced, Go", golang, map[string]string{"x": "[runtime]\nexperimental_force_guest_pull = true\n"},
			kata.Target{Hypervisor: "clh", SharedFS: ptr("virtio-fs"), NoBlockDevices: true, ForceGuestPull: true}},
		{"two hypervisors and no name", "[hypervisor.qemu]\n[hypervisor.clh]\n", nil, kata.Target{}},
		{"nothing said", "[hypervisor.qemu]\n", nil, kata.Target{Hypervisor: "qemu"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := write(t, dir, "shipped/configuration.toml", c.main)
			for name, content := range c.dropIns {
				write(t, dir, "shipped/config.d/"+name, content)
			}
			link := filepath.Join(dir, "configuration.toml") // as kata-deploy's default is one
			if err := os.Symlink(path, link); err != nil {
				t.Fatal(err)
			}
			c.want.Config = link
			if got, err := kataconfig.Load(link); err != nil || !reflect.DeepEqual(got, &c.want) {
				t.Errorf("%+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadRefuses(t *testing.T) {
	for content, want := range map[string]string{
		"":                                 "has no table [hypervisor.NAME]",
		"[hypervisor.qemu]\nshared_fs = 1": "SharedFS",
		"[hypervisor":                      "toml:",
	} {
		path := write(t, t.TempDir(), "configuration.toml", content)
		if got, err := kataconfig.Load(path); err == nil || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%q: %+v, %v; want %q", content, got, err, want)
		}
	}
	path := write(t, t.TempDir(), "configuration.toml", "[hypervisor.qemu]\n")
	write(t, filepath.Dir(path), "config.d/bad", "=")
	if _, err := kataconfig.Load(path); err == nil || !strings.Contains(err.Error(), "config.d/bad") {
		t.Errorf("bad drop-in: %v", err)
	}
	if _, err := kataconfig.Load(filepath.Join(t.TempDir(), "none.toml")); err == nil {
		t.Error("a file that does not exist was read")
	}
	if _, err := kataconfig.Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("directory: %v", err)
	}
}

// TestOnce: what counts is what Kata has read, for the pod's first container.
func TestOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "configuration.toml")
	var o kataconfig.Once
	if got, err := o.Load(path); err == nil {
		t.Errorf("a file that does not exist: %+v", got)
	}
	write(t, dir, "configuration.toml", "[hypervisor.qemu]\nshared_fs = \"none\"\n")
	for range 2 {
		if got, err := o.Load(path); err != nil || *got.SharedFS != "none" {
			t.Errorf("%+v, %v", got, err)
		}
		write(t, dir, "configuration.toml", "[hypervisor.qemu]\nshared_fs = \"virtio-fs\"\n")
	}
}
