package crio

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/kata/modes"
	"github.com/crio-erofs/crio-erofs/test/env"
)

// The runtime handlers that contrib/crio.conf.d/60-kata-erofs.conf defines.
const (
	HandlerVM          = "kata-erofs"
	HandlerVMLayer     = "kata-erofs-layer"
	HandlerVMGuestPull = "kata-erofs-guest-pull"
)

// HandlerRunc is the default runtime handler of the private CRI-O.
const HandlerRunc = "runc"

// registriesConf lets CRI-O talk plain HTTP to the test's registry.
const registriesConf = `[[registry]]
location = "%s"
insecure = true
`

// storageConf is what OpenShift has: another driver with options of its own, which contrib's drop-in overrides.
const storageConf = `[storage]
driver = "overlay"
graphroot = "%s"
runroot = "%s"

[storage.options.overlay]
mountopt = "nodev,metacopy=on"
`

// policy accepts unsigned images: the test's registry is our own.
const policy = `{"default": [{"type": "insecureAcceptAnything"}]}`

// cniConf gives pods an interface and an address out of 198.18.0.0/15, which is for tests (RFC 2544). Each process
// takes another part of it, so that two of them do not set one route twice. All that a pod sends goes to the machine.
const cniConf = `{
  "cniVersion": "1.0.0",
  "name": "crio-erofs-test",
  "plugins": [{"type": "ptp", "ipam": {
    "type": "host-local", "dataDir": "%s", "ranges": [[{"subnet": "198.%d.%d.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]
  }}]
}
`

// runtimeWrapper takes negative OOM scores out of a container's configuration: they need CAP_SYS_RESOURCE, which a test
// machine that is itself a container may not have.
const runtimeWrapper = `#!/bin/sh
for arg; do
	[ "$previous" = --bundle ] && sed -i 's/"oomScoreAdj":-[0-9]*/"oomScoreAdj":0/' "$arg/config.json"
	previous=$arg
done
exec %s "$@"
`

// contribVMs returns the handlers for VMs as contrib's drop-in defines them.
func contribVMs(dropIn string) (map[string]table, error) {
	var file struct {
		Crio struct {
			Runtime struct {
				Runtimes map[string]table `toml:"runtimes"`
			} `toml:"runtime"`
		} `toml:"crio"`
	}
	if _, err := toml.DecodeFile(dropIn, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", dropIn, err)
	}
	handlers := file.Crio.Runtime.Runtimes
	for _, name := range []string{HandlerVM, HandlerVMLayer, HandlerVMGuestPull} {
		if path, ok := handlers[name]["runtime_path"].(string); !ok || filepath.Base(path) != shimName(name) {
			return nil, fmt.Errorf("%s: the runtime_path of handler %q is %q, want %s", dropIn, name, path, shimName(name))
		}
	}
	return handlers, nil
}

// shimName returns what the shim of a handler is called.
func shimName(handler string) string { return "containerd-shim-" + handler + "-v2" }

// table is a table of a TOML file.
type table = map[string]any

// writeConfig lays out the configuration below s.dir: contrib's own files, unchanged, and after its drop-ins one of ours
// that does nothing but move all paths into the private folder.
func (s *Server) writeConfig() error {
	root, err := env.Root()
	if err != nil {
		return err
	}
	dropIns := filepath.Join(root, "contrib/crio.conf.d")
	handlers, err := contribVMs(filepath.Join(dropIns, "60-kata-erofs.conf"))
	if err != nil {
		return err
	}
	// CRI-O replaces a handler's table as a whole, so ours start as copies of contrib's.
	for name, vm := range handlers {
		vm["runtime_path"] = filepath.Join(s.path("shims"), shimName(name))
		vm["runtime_root"] = s.path("vm")
		if s.opts.Kata != nil {
			vm["runtime_config_path"] = cmp.Or(s.opts.Kata.Configs[name], s.opts.Kata.Config)
		}
	}
	if handlers[HandlerRunc], err = s.runcHandler(); err != nil {
		return err
	}
	private := s.privateConfig()
	private["runtime"].(table)["runtimes"] = handlers
	if s.opts.StorageDriver != "" {
		private["storage_driver"] = s.opts.StorageDriver
	}
	if s.opts.StorageOptions != nil {
		private["storage_option"] = s.opts.StorageOptions
	}
	if s.opts.ImageStore {
		private["imagestore"] = s.ImageRoot()
	}
	var conf bytes.Buffer
	if err := toml.NewEncoder(&conf).Encode(table{"crio": private}); err != nil {
		return err
	}
	for file, content := range map[string]string{
		"crio.conf.d/90-private.conf": conf.String(),
		"crio.conf":                   "",
		"storage.conf":                fmt.Sprintf(storageConf, s.GraphRoot(), s.path("runroot")),
		"registries.conf":             fmt.Sprintf(registriesConf, s.opts.Registry),
		"policy.json":                 policy,
		"cni/10-test.conflist":        fmt.Sprintf(cniConf, s.path("cni-data"), 18+os.Getpid()>>8&1, os.Getpid()&0xff),
	} {
		if err := os.MkdirAll(filepath.Dir(s.path(file)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(s.path(file), []byte(content), 0o644); err != nil {
			return err
		}
	}
	if s.opts.StorageDriver != "" {
		return nil // CRI-O adds up the drivers' options of all files, and another driver refuses ours
	}
	for name, file := range map[string]string{
		"60-erofs.conf": s.dropIn, "60-kata-erofs.conf": filepath.Join(dropIns, "60-kata-erofs.conf"),
	} {
		if err := os.Symlink(file, s.path("crio.conf.d/"+name)); err != nil {
			return err
		}
	}
	return s.writeHookConfig(root)
}

// privateConfig returns CRI-O's settings for running beside another CRI-O, or on a machine that has none.
func (s *Server) privateConfig() table {
	nri := table{
		"nri_listen": s.path("nri.sock"), "nri_plugin_dir": s.path("nri/plugins"),
		"nri_plugin_config_dir": s.path("nri/conf.d"),
	}
	if s.opts.Kata != nil { // emulated CPUs: the default time limits are for real ones
		nri["nri_plugin_registration_timeout"], nri["nri_plugin_request_timeout"] = "2m", "2m"
	}
	return table{
		"root": s.path("graphroot"), "runroot": s.path("runroot"), "log_dir": s.path("logs"),
		"version_file": s.path("version"), "version_file_persist": s.path("version-persist"),
		"clean_shutdown_file": s.path("clean.shutdown"),
		"api":                 table{"listen": s.socket()},
		"image": table{
			"pause_image": s.opts.PauseImage, "pause_command": "/pause",
			"signature_policy": s.path("policy.json"), "signature_policy_dir": s.path("policies"),
			"big_files_temporary_dir": s.path("tmp"), // else /var/tmp, where what a killed CRI-O was pulling would stay
		},
		"network": table{"network_dir": s.path("cni"), "plugin_dirs": []string{"/usr/lib/cni", "/opt/cni/bin"}},
		"nri":     nri,
		"runtime": table{
			"default_runtime": HandlerRunc, "cgroup_manager": "cgroupfs", "conmon_cgroup": "pod",
			"namespaces_dir": s.path("ns"), "container_exits_dir": s.path("exits"),
			"container_attach_socket_dir": s.path("attach"), "hooks_dir": []string{s.path("hooks.d")},
			"pinns_path": s.pinns, "log_level": s.opts.LogLevel, "apparmor_profile": "unconfined",
			"irqbalance_config_file": "", "cdi_spec_dirs": []string{},
			"disable_hostport_mapping": s.opts.Kata != nil, // a VM around Kata has no netfilter
		},
	}
}

// runcHandler returns the configuration of the handler for plain containers.
func (s *Server) runcHandler() (table, error) {
	runc, err := exec.LookPath("runc")
	if err != nil {
		return nil, fmt.Errorf("%w: run 'make deps'", err)
	}
	conmon, err := exec.LookPath("conmon")
	if err != nil {
		return nil, fmt.Errorf("%w: run 'make deps'", err)
	}
	if runc, err = Runtime(runc, s.opts.Dir); err != nil {
		return nil, err
	}
	return table{
		"runtime_path": runc, "runtime_type": "oci", "runtime_root": s.path("runc"),
		"monitor_path": conmon, "monitor_cgroup": "pod",
	}, nil
}

// Runtime returns an OCI runtime that works on this machine: program, or a wrapper around it that it writes to dir.
func Runtime(program, dir string) (string, error) {
	mayLowerScore, err := hasCapability(unix.CAP_SYS_RESOURCE)
	if err != nil || mayLowerScore {
		return program, err
	}
	wrapper := filepath.Join(dir, filepath.Base(program)+"-wrapper")
	return wrapper, os.WriteFile(wrapper, fmt.Appendf(nil, runtimeWrapper, program), 0o755)
}

// hasCapability tells whether this process has a capability in its effective set.
func hasCapability(c uint) (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false, fmt.Errorf("capget: %w", err)
	}
	return data[c/32].Effective&(1<<(c%32)) != 0, nil
}

// environment returns the variables that keep CRI-O away from the machine's own container configuration.
func (s *Server) environment() []string {
	var kept []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CONTAINERS_") && !strings.HasPrefix(v, "STORAGE_") {
			kept = append(kept, v)
		}
	}
	if s.opts.StandIn != nil {
		kept = append(kept, s.opts.StandIn.Environment()...)
	}
	if s.opts.Kata != nil {
		kept = append(kept, "CRIO_EROFS_REAL_SHIM="+s.opts.Kata.Shim)
	}
	return append(append(kept,
		"CONTAINER_REGISTRIES_CONF="+s.path("registries.conf"),
		"CONTAINERS_STORAGE_CONF="+s.path("storage.conf"),
		"TMPDIR="+s.path("tmp"),
		"CRIO_EROFS_RUN_DIR="+s.path("proxies"),
		modes.Environment+"="+s.ConfigFile(),
		"KATA_STANDIN_ROOT="+s.path("standin"),
	), s.opts.Env...)
}
