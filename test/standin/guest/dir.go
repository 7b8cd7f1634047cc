package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// EnvDir names the directory with the guest's files.
const EnvDir = "KATA_STANDIN_GUEST"

// EnvPackage names the Debian package of the guest's kernel, instead of the one linux-image-cloud-amd64 depends on.
const EnvPackage = "KATA_STANDIN_KERNEL_PACKAGE"

// Names of the files in the directory.
const (
	KernelName = "vmlinuz"
	InitrdName = "initrd.img"
)

// ErrNotBuilt says that there is no guest to boot.
var ErrNotBuilt = errors.New("the guest has not been built: run `go run ./test/standin/cmd/build-guest`")

// Files are what a VM boots.
type Files struct {
	Kernel string
	Initrd string
}

// Find returns the guest's files: from EnvDir if set, else from .cache/guest beside the directory of the program
// that asks (bin/ and .cache/ are neighbours in the source tree).
func Find() (*Files, error) {
	dir := os.Getenv(EnvDir)
	if dir == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, err
		}
		dir = filepath.Join(filepath.Dir(exe), "..", ".cache", "guest")
	}
	return In(dir)
}

// In returns the guest's files in dir.
func In(dir string) (*Files, error) {
	f := &Files{Kernel: filepath.Join(dir, KernelName), Initrd: filepath.Join(dir, InitrdName)}
	for _, path := range []string{f.Kernel, f.Initrd} {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("%w (%w; %s names another directory)", ErrNotBuilt, err, EnvDir)
		}
	}
	return f, nil
}
