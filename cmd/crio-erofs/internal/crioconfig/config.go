// Package crioconfig reads CRI-O's configuration as CRI-O does: storage.conf, crio.conf and the drop-ins, from a node or from
// a tree that is to become one, and asks a running CRI-O for the one that it goes by. Only the keys that decide how images
// reach containers are kept.
package crioconfig

import (
	"slices"

	"github.com/BurntSushi/toml"
)

// Where CRI-O looks when it is not told otherwise (cri-o 1.34, pkg/config/config_unix.go).
const (
	DefaultPath   = "/etc/crio/crio.conf"
	DefaultDir    = "/etc/crio/crio.conf.d"
	DefaultListen = "/var/run/crio/crio.sock"
)

// Where CRI-O keeps images and containers if no configuration says otherwise (containers/storage v1.58,
// types/default_store).
const (
	DefaultGraphRoot = "/var/lib/containers/storage"
	DefaultRunRoot   = "/run/containers/storage"
)

// Config is what CRI-O goes by.
type Config struct {
	Crio

	// Files are the files that it comes from, in the order in which CRI-O reads them.
	Files []string
}

// Crio is the table [crio]. Embedded structs stand for keys of the table itself, as in CRI-O's own types.
type Crio struct {
	GraphRoot      string   `toml:"root"`
	RunRoot        string   `toml:"runroot"`
	ImageStore     string   `toml:"imagestore"`
	StorageDriver  string   `toml:"storage_driver"`
	StorageOptions []string `toml:"storage_option"`
	API            API      `toml:"api"`
	Runtime        Runtime  `toml:"runtime"`
	NRI            NRI      `toml:"nri"`
}

// API is the table [crio.api].
type API struct {
	Listen string `toml:"listen"`
}

// Runtime is the table [crio.runtime].
type Runtime struct {
	DefaultRuntime string              `toml:"default_runtime"`
	HooksDir       []string            `toml:"hooks_dir"`
	DecryptionKeys string              `toml:"decryption_keys_path"`
	Runtimes       map[string]*Handler `toml:"runtimes"`
}

// Handler is a table [crio.runtime.runtimes.NAME].
type Handler struct {
	RuntimeType       string `toml:"runtime_type"`
	RuntimePath       string `toml:"runtime_path"`
	RuntimeConfigPath string `toml:"runtime_config_path"`
	RuntimePullImage  bool   `toml:"runtime_pull_image"`
}

// NRI is the table [crio.nri].
type NRI struct {
	Enabled            bool   `toml:"enable_nri"`
	Listen             string `toml:"nri_listen"`
	PluginDir          string `toml:"nri_plugin_dir"`
	PluginConfigDir    string `toml:"nri_plugin_config_dir"`
	DisableConnections bool   `toml:"nri_disable_connections"`
}

// defaults are CRI-O's, but for those of storage.conf (cri-o 1.34, pkg/config/config.go, DefaultConfig; nri v0.9,
// pkg/adaptation).
func defaults() *Config {
	c := &Config{}
	c.GraphRoot, c.RunRoot = DefaultGraphRoot, DefaultRunRoot
	c.API.Listen = DefaultListen
	c.Runtime = Runtime{DefaultRuntime: "crun", HooksDir: []string{"/usr/share/containers/oci/hooks.d"},
		DecryptionKeys: "/etc/crio/keys/"}
	c.NRI = NRI{Enabled: true, Listen: "/var/run/nri/nri.sock", PluginDir: "/opt/nri/plugins",
		PluginConfigDir: "/etc/nri/conf.d"}
	return c
}

// decode lets the keys of a file replace what was there. As in CRI-O, options of the storage driver add up, a handler's
// table replaces one of that name as a whole, and an empty path or driver leaves the one before.
func (c *Config) decode(text string) error {
	before := c.Crio
	file := struct {
		Crio *Crio `toml:"crio"`
	}{&c.Crio}
	c.StorageOptions = nil
	if _, err := toml.Decode(text, &file); err != nil {
		return err
	}
	c.StorageOptions = lastOnes(append(slices.Clone(before.StorageOptions), c.StorageOptions...))
	keep(&c.GraphRoot, before.GraphRoot)
	keep(&c.RunRoot, before.RunRoot)
	keep(&c.StorageDriver, before.StorageDriver)
	return nil
}

func keep(now *string, before string) {
	if *now == "" {
		*now = before
	}
}

// lastOnes leaves of equal options the last (cri-o 1.34, pkg/config/config.go, removeDupStorageOpts).
func lastOnes(options []string) []string {
	var kept []string
	for i, o := range options {
		if !slices.Contains(options[i+1:], o) {
			kept = append(kept, o)
		}
	}
	return kept
}
