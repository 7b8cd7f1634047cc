package crioconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/containers/storage/types"
	securejoin "github.com/cyphar/filepath-securejoin"
)

// Source says where CRI-O's configuration is. Empty paths stand for CRI-O's own.
type Source struct {
	Root string // of the tree that the paths are in; empty: this machine's
	Path string // crio --config
	Dir  string // crio --config-dir

	// Getenv looks into CRI-O's environment; nil: there is nothing in it.
	Getenv func(string) string
}

// Resolve returns where a path of the tree is on this machine, through the tree's own symbolic links.
func (s *Source) Resolve(path string) (string, error) {
	if s.Root == "" {
		return path, nil
	}
	return securejoin.SecureJoin(s.Root, path)
}

// Read reads the files.
func (s *Source) Read() (*Config, error) {
	c := defaults()
	if err := s.readStorage(c); err != nil {
		return nil, err
	}
	path, named := s.Path, s.Path != ""
	if !named {
		path = DefaultPath
	}
	if err := s.readFile(c, path); err != nil && (named || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	dir := s.Dir
	if dir == "" {
		dir = DefaultDir
	}
	return c, s.readDir(c, dir)
}

func (s *Source) readFile(c *Config, path string) error {
	real, err := s.Resolve(path)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(real)
	if err != nil {
		return fmt.Errorf("CRI-O's configuration: %w", err)
	}
	if err := c.decode(string(b)); err != nil {
		return fmt.Errorf("CRI-O's configuration %s: %w", path, err)
	}
	c.Files = append(c.Files, path)
	return nil
}

// readDir reads all files below a directory, whatever their names, in lexical order (UpdateFromPath of CRI-O).
func (s *Source) readDir(c *Config, dir string) error {
	real, err := s.Resolve(dir)
	if err != nil {
		return err
	}
	err = filepath.Walk(real, func(path string, fi fs.FileInfo, err error) error {
		if err != nil || fi.IsDir() {
			return err
		}
		rel, err := filepath.Rel(real, path)
		if err != nil {
			return err
		}
		return s.readFile(c, filepath.Join(dir, rel))
	})
	if errors.Is(err, fs.ErrNotExist) {
		if _, statErr := os.Stat(real); errors.Is(statErr, fs.ErrNotExist) {
			return nil
		}
	}
	return err
}

// Where containers/storage looks for storage.conf (v1.58, types/options.go and storage.conf(5)).
const (
	envStorageConf    = "CONTAINERS_STORAGE_CONF"
	envStorageDriver  = "STORAGE_DRIVER"
	storageConf       = "/etc/containers/storage.conf"
	vendorStorageConf = "/usr/share/containers/storage.conf"
)

// readStorage takes over what storage.conf says: CRI-O's defaults.
func (s *Source) readStorage(c *Config) error {
	candidates := []string{storageConf, vendorStorageConf}
	if path := s.getenv(envStorageConf); path != "" {
		candidates = []string{path}
	}
	for _, path := range candidates {
		real, err := s.Resolve(path)
		if err != nil {
			return err
		}
		if _, err := os.Stat(real); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var o types.StoreOptions
		if err := types.ReloadConfigurationFile(real, &o); err != nil {
			return fmt.Errorf("configuration of containers/storage, %s: %w", path, err)
		}
		replace(&c.GraphRoot, o.GraphRoot)
		replace(&c.RunRoot, o.RunRoot)
		c.ImageStore, c.StorageDriver = o.ImageStore, o.GraphDriverName
		c.StorageOptions = slices.Clone(o.GraphDriverOptions)
		c.Files = append(c.Files, path)
		break
	}
	replace(&c.StorageDriver, s.getenv(envStorageDriver))
	return nil
}

func (s *Source) getenv(key string) string {
	if s.Getenv == nil {
		return ""
	}
	return s.Getenv(key)
}

func replace(value *string, by string) {
	if by != "" {
		*value = by
	}
}
