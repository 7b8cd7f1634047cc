// Package install finds the runtimes of a Kata Containers installation, laid out as Kata's releases are.
package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Kind is one of Kata's two runtimes.
type Kind string

// Kinds, in the words of the shims' --version.
const (
	Rust Kind = "Rust"   // runtime-rs
	Go   Kind = "Golang" // the Go runtime
)

// Runtime is one of the installation's runtimes, with QEMU.
type Runtime struct {
	Kind    Kind   `json:"kind"`
	Version string `json:"version"` // 4.1.0
	Line    string `json:"line"`    // all that --version says
	Shim    string `json:"shim"`    // path of containerd-shim-kata-v2
	Config  string `json:"config"`  // path of its configuration for QEMU
}

// places is where Kata's releases have the runtimes and their configurations, below the installation's folder
// (kata-containers 4.1.0, src/runtime-rs/Makefile BINDIR and src/runtime/Makefile; tools/packaging/kata-deploy).
var places = []struct {
	kind         Kind
	shim, config string
}{
	{Rust, "runtime-rs/bin/containerd-shim-kata-v2",
		"share/defaults/kata-containers/runtime-rs/configuration-qemu-runtime-rs.toml"},
	{Go, "bin/containerd-shim-kata-v2", "share/defaults/kata-containers/configuration-qemu.toml"},
}

// versionLine is what Kata's shims print: src/runtime-rs/crates/shim/src/bin/main.rs, and
// src/runtime/cmd/containerd-shim-kata-v2/main.go.
var versionLine = regexp.MustCompile(`containerd shim \((Rust|Golang)\): id: .*, version: ([^,]*),`)

// Find returns the runtimes of the installation in a folder, such as /opt/kata.
func Find(ctx context.Context, dir string) ([]Runtime, error) {
	var found []Runtime
	for _, place := range places {
		r := Runtime{Kind: place.kind, Shim: filepath.Join(dir, place.shim), Config: filepath.Join(dir, place.config)}
		if _, err := os.Stat(r.Shim); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := r.ask(ctx); err != nil {
			return nil, err
		}
		if err := r.checkConfig(); err != nil {
			return nil, err
		}
		found = append(found, r)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s is not a Kata installation: it has neither %s nor %s", dir, places[0].shim,
			places[1].shim)
	}
	return found, nil
}

// ask asks the shim what it is.
func (r *Runtime) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, r.Shim, "--version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s --version: %w: %s", r.Shim, err, out)
	}
	r.Line = strings.TrimSpace(string(out))
	m := versionLine.FindStringSubmatch(r.Line)
	if m == nil {
		return fmt.Errorf("%s --version says %q, which is not what Kata's shims say", r.Shim, r.Line)
	}
	if Kind(m[1]) != r.Kind {
		return fmt.Errorf("%s says that it is %s, where %s is expected", r.Shim, m[1], r.Kind)
	}
	r.Version = m[2]
	return nil
}

// checkConfig makes sure that the files which the configuration names are there: its paths are absolute, and wrong
// when an installation was moved.
func (r *Runtime) checkConfig() error {
	qemu, err := r.qemu()
	if err != nil {
		return err
	}
	for _, path := range []string{qemu.Path, qemu.Kernel, qemu.Image, qemu.Initrd} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%s names what is not there: %w; was the installation moved?", r.Config, err)
		}
	}
	return nil
}

// qemu is what the configuration says of QEMU: paths of files.
type qemu struct {
	Path, Kernel, Image, Initrd string
}

func (r *Runtime) qemu() (qemu, error) {
	var config struct {
		Hypervisor map[string]qemu
	}
	if _, err := toml.DecodeFile(r.Config, &config); err != nil {
		return qemu{}, fmt.Errorf("configuration of %s: %w", r.Shim, err)
	}
	q, ok := config.Hypervisor["qemu"]
	if !ok {
		return qemu{}, fmt.Errorf("%s has no section hypervisor.qemu", r.Config)
	}
	return q, nil
}
