package hooks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/safefile"
)

const (
	// The shim writes its address into the bundle of every container that it starts; beside the socket there is its
	// state (docs/shim.md). Other shims have their sockets in directories without one.
	addressFile    = "address"
	addressPrefix  = "unix://"
	shimSocketFile = "sock"
	shimStateFile  = "state.json"
)

// ThroughShim fails if the container of this bundle was not started by this project's shim. Only root writes in a
// bundle.
func ThroughShim(bundle string) error {
	path := filepath.Join(bundle, addressFile)
	b, err := safefile.Read(path, unix.PathMax)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("no shim has left its address in the bundle")
	}
	if err != nil {
		return err
	}
	address := strings.TrimSpace(string(b))
	socket, ok := strings.CutPrefix(address, addressPrefix)
	state := filepath.Join(filepath.Dir(socket), shimStateFile)
	if !ok || !filepath.IsAbs(socket) || filepath.Base(socket) != shimSocketFile {
		return fmt.Errorf("%s names another shim, at %q", path, address)
	}
	if fi, err := os.Lstat(state); err != nil || !fi.Mode().IsRegular() {
		return fmt.Errorf("%s names another shim, at %q: %s is not there", path, address, state)
	}
	return nil
}
