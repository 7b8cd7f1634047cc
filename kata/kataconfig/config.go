// Package kataconfig reads the few keys of Kata's own configuration files that decide what a container's rootfs can be.
package kataconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/pelletier/go-toml/v2"

	"github.com/crio-erofs/crio-erofs/kata"
)

// dropInDir is beside the configuration file; both runtimes merge its files, in the order of their names
// (kata-types/src/config/drop_in.rs; decodeDropIns in src/runtime/pkg/katautils/config.go).
const dropInDir = "config.d"

// maxFileSize bounds what is read of a file; Kata's own have 40 KiB.
const maxFileSize = 4 << 20

// file has the keys that count. Everything else in the file is skipped, as it differs between versions.
type file struct {
	Hypervisor map[string]hypervisor `toml:"hypervisor"`
	Runtime    struct {
		HypervisorName string   `toml:"hypervisor_name"`               // runtime-rs
		Experimental   []string `toml:"experimental"`                  // runtime-rs; Go, too
		ForceGuestPull bool     `toml:"experimental_force_guest_pull"` // Go
	} `toml:"runtime"`
}

type hypervisor struct {
	SharedFS              *string `toml:"shared_fs"`
	BlockDeviceDriver     string  `toml:"block_device_driver"`
	DisableBlockDeviceUse bool    `toml:"disable_block_device_use"`
	ConfidentialGuest     bool    `toml:"confidential_guest"`
}

// forceGuestPull is runtime-rs's experimental feature of that name (kata-types/src/mount.rs).
const forceGuestPull = "force_guest_pull"

// Load reads a configuration file and its drop-ins. Like Kata it follows a symbolic link first, and looks for the
// drop-ins beside the link's end.
func Load(path string) (*kata.Target, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("configuration of Kata: %w", err)
	}
	files, err := sources(real)
	if err != nil {
		return nil, fmt.Errorf("configuration of Kata, %s: %w", path, err)
	}
	var merged file
	for _, f := range files {
		if err := decodeInto(&merged, f); err != nil {
			return nil, fmt.Errorf("configuration of Kata, %s: %w", f, err)
		}
	}
	return merged.target(path)
}

// sources returns the file and its drop-ins.
func sources(path string) ([]string, error) {
	dir := filepath.Join(filepath.Dir(path), dropInDir)
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	files := []string{path}
	for _, e := range entries {
		if !e.IsDir() {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}

// decodeInto lets the keys of a file replace those that came before, table by table.
func decodeInto(merged *file, path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxFileSize {
		return fmt.Errorf("not a regular file of at most %d bytes", maxFileSize)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// The decoder keeps what it finds in structs but not in a map's values, so those are merged by hand.
	next := *merged
	next.Hypervisor = nil
	if err := toml.Unmarshal(b, &next); err != nil {
		return err
	}
	var tables struct {
		Hypervisor map[string]map[string]any `toml:"hypervisor"`
	}
	if err := toml.Unmarshal(b, &tables); err != nil {
		return err
	}
	all := maps.Clone(merged.Hypervisor)
	if all == nil {
		all = map[string]hypervisor{}
	}
	for name, h := range next.Hypervisor {
		all[name] = all[name].overlaid(h, tables.Hypervisor[name])
	}
	next.Hypervisor = all
	*merged = next
	return nil
}

// overlaid returns h with what a later file says; present has the keys that it says anything of.
func (h hypervisor) overlaid(later hypervisor, present map[string]any) hypervisor {
	if later.SharedFS != nil {
		h.SharedFS = later.SharedFS
	}
	if _, ok := present["block_device_driver"]; ok {
		h.BlockDeviceDriver = later.BlockDeviceDriver
	}
	if _, ok := present["disable_block_device_use"]; ok {
		h.DisableBlockDeviceUse = later.DisableBlockDeviceUse
	}
	if _, ok := present["confidential_guest"]; ok {
		h.ConfidentialGuest = later.ConfidentialGuest
	}
	return h
}

// target picks the hypervisor: runtime-rs names it, the Go runtime wants one table only.
func (f *file) target(path string) (*kata.Target, error) {
	t := &kata.Target{Config: path,
		ForceGuestPull: f.Runtime.ForceGuestPull || slices.Contains(f.Runtime.Experimental, forceGuestPull)}
	name := f.Runtime.HypervisorName
	if name == "" {
		names := slices.Sorted(maps.Keys(f.Hypervisor))
		switch {
		case len(names) == 0:
			return nil, fmt.Errorf("configuration of Kata, %s, has no table [hypervisor.NAME]: is it one of Kata's?",
				path)
		case len(names) > 1:
			return t, nil // which one counts depends on the runtime
		}
		name = names[0]
	}
	h := f.Hypervisor[name]
	t.Hypervisor, t.SharedFS, t.BlockDriver = name, h.SharedFS, h.BlockDeviceDriver
	t.NoBlockDevices, t.Confidential = h.DisableBlockDeviceUse, h.ConfidentialGuest
	return t, nil
}
