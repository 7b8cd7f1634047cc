package install

import (
	"fmt"
	"os"
	"path/filepath"
)

// dropIn makes the guest share nothing with the host, and small; it lets pods bring init data; and it gives a machine
// time whose CPUs are emulated. There, with Linux 6.1 and QEMU 7.2, blockdev-add hung at times with Kata's default, io_uring.
// Both runtimes merge config.d/*.toml beside a configuration file into it (src/libs/kata-types/src/config/drop_in.rs,
// src/runtime/pkg/katautils/config.go).
const dropIn = `[hypervisor.qemu]
shared_fs = "none"
block_device_aio = "threads"
enable_annotations = ["cc_init_data"]
default_memory = %d

[agent.kata]
%s
`

// Sharing are settings with which the guest sees a directory of the host, as it does by default.
const Sharing = `[hypervisor.qemu]
shared_fs = "virtio-fs"
`

// timeouts are the words of the runtimes for how long the guest's agent may take to come up.
var timeouts = map[Kind]string{
	Rust: "dial_timeout_ms = 1000\nreconnect_timeout_ms = 180000\ncreate_container_timeout = 180",
	Go:   "dial_timeout = 180\n\n[runtime]\ncreate_container_timeout = 180",
}

// PrivateConfig copies the runtime's configuration to dir, where the settings of more, as TOML, override it one after the
// other. memoryMiB is the guest's memory.
func (r Runtime) PrivateConfig(dir string, memoryMiB int, more ...string) (string, error) {
	content, err := os.ReadFile(r.Config)
	if err != nil {
		return "", err
	}
	config := filepath.Join(dir, "configuration.toml")
	files := map[string]string{
		config: string(content),
		filepath.Join(dir, "config.d/50-test.toml"): fmt.Sprintf(dropIn, memoryMiB, timeouts[r.Kind]),
	}
	for i, more := range more {
		files[filepath.Join(dir, fmt.Sprintf("config.d/%d-more.toml", 60+i))] = more
	}
	for path, content := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return "", err
		}
	}
	return config, nil
}
