package modes

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/crio-erofs/crio-erofs/driver/safefile"
)

const (
	// DefaultPath is where the configuration file is. It may be missing: then every handler has the defaults.
	DefaultPath = "/etc/crio-erofs/config.toml"

	// Environment is the variable that names another file. The shim reads it from CRI-O's environment; NRI gives a
	// pre-installed plugin none of that, so the hook has a setting (config) of its own.
	Environment = "CRIO_EROFS_CONFIG"

	// maxFileSize bounds what is read: thousands of handlers.
	maxFileSize = 1 << 20
)

// Load reads and checks the configuration file at path. An empty path stands for DefaultPath, the only one that may be
// missing.
func Load(path string) (*Config, error) {
	named := path != ""
	if !named {
		path = DefaultPath
	}
	b, _, err := safefile.ReadOwned(path, maxFileSize)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return &Config{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c, err := Parse(path, b)
	if err != nil {
		return nil, fmt.Errorf("configuration %w", err)
	}
	return c, nil
}
