package corpus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// trixieName is the folder of the programs in the cache; the number changes with the packages in it.
const trixieName = "trixie-1"

// Trixie returns the command line of a program of Debian 13's erofs-utils (1.8: mkfs.erofs, fsck.erofs, dump.erofs) on
// which to append arguments. The programs are not installed: they lie in the cache with the libraries of their release
// and are started by that release's dynamic linker. The first call for a cache fetches them with apt.
func Trixie(ctx context.Context, cache, program string) ([]string, error) {
	root, err := cached(cache, trixieName, func(work string) error { return fetchTrixie(ctx, work) })
	if err != nil {
		return nil, fmt.Errorf("erofs-utils of Debian 13: %w", err)
	}
	linker, err := filepath.Glob(filepath.Join(root, "usr/lib*/ld-linux-*.so.*"))
	libraries, err2 := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu*"))
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	path := filepath.Join(root, "usr/bin", program)
	if _, err := os.Stat(path); err != nil || len(linker) == 0 || len(libraries) == 0 {
		return nil, fmt.Errorf("cache %s is incomplete: remove it: no %s, dynamic linker or libraries", root, path)
	}
	return []string{linker[0], "--library-path", strings.Join(libraries, ":"), path}, nil
}

// fetchTrixie downloads erofs-utils and everything that it depends on, with an apt whose state is in work and knows of
// no installed package, and unpacks them there.
func fetchTrixie(ctx context.Context, work string) error {
	dir := filepath.Join(work, "apt")
	a, err := newApt(ctx, dir, "trixie")
	if err != nil {
		return err
	}
	if _, err := a.run(ctx, "apt-get", "-qq", "install", "--yes", "--no-install-recommends", "--download-only",
		"erofs-utils"); err != nil {
		return err
	}
	if err := a.unpack(ctx, work); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
