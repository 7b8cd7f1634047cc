package modes

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
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
	// O_NONBLOCK: a pipe in the file's place must not hold up a container.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return &Config{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	if err := checkOwner(f); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if len(b) > maxFileSize {
		return nil, fmt.Errorf("configuration %s is larger than %d bytes", path, maxFileSize)
	}
	c, err := Parse(path, b)
	if err != nil {
		return nil, fmt.Errorf("configuration %w", err)
	}
	return c, nil
}

// checkOwner makes sure that nobody but root, or the user that runs this program, decides what is verified.
func checkOwner(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	if fi.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("mode %v lets others than the owner write it: chmod go-w", fi.Mode().Perm())
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("owned by uid %d, not by root: chown root", st.Uid)
	}
	return nil
}
