package corpus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/crio-erofs/crio-erofs/test/env"
)

// ErrNoSuite says that the machine's mirror does not have a release of Debian (any longer).
var ErrNoSuite = errors.New("the mirror does not have it")

// apt is an apt with a state of its own, of another release of Debian than the machine's. It knows of no installed
// package.
type apt struct {
	dir     string
	options []string
}

// newApt makes one in dir, which must be empty, and fetches the release's list of packages.
func newApt(ctx context.Context, dir, suite string) (*apt, error) {
	mirror, _, err := env.DebianSource(ctx)
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	source := "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " + mirror + " " + suite + " main\n"
	for name, content := range map[string]string{"sources.list": source, "status": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	a := &apt{dir: dir}
	for key, value := range map[string]string{
		"Dir::Etc::sourcelist": "sources.list", "Dir::State::lists": "lists", "Dir::State::status": "status",
		"Dir::Cache": "", "Dir::Cache::archives": "archives",
	} {
		a.options = append(a.options, "-o", key+"="+filepath.Join(dir, value))
	}
	// Its own sandbox user may not be able to reach the cache.
	a.options = append(a.options, "-o", "Dir::Etc::sourceparts=-", "-o", "APT::Sandbox::User=root")
	_, err = a.run(ctx, "apt-get", "-qq", "update")
	if err != nil && strings.Contains(err.Error(), "does not have a Release file") {
		err = fmt.Errorf("%w: %w", ErrNoSuite, err)
	}
	return a, err
}

func (a *apt) run(ctx context.Context, program string, args ...string) (string, error) {
	return output(ctx, filepath.Join(a.dir, "archives"), program, append(a.options, args...)...)
}

// unpack unpacks what has been downloaded to root.
func (a *apt) unpack(ctx context.Context, root string) error {
	archives, err := filepath.Glob(filepath.Join(a.dir, "archives/*.deb"))
	if err != nil {
		return err
	}
	for _, archive := range archives {
		if _, err := output(ctx, root, "dpkg-deb", "--extract", archive, root); err != nil {
			return err
		}
	}
	return nil
}
