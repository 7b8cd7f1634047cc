package corpus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Kernel returns a folder with the kernel for clouds of a release of Debian, in boot, and its modules, in lib/modules.
// The first call for a cache fetches it with apt.
func Kernel(ctx context.Context, cache, suite string) (string, error) {
	root, err := cached(cache, "kernel-"+suite+"-1", func(work string) error { return fetchKernel(ctx, work, suite) })
	if err != nil {
		return "", fmt.Errorf("kernel of Debian %s: %w", suite, err)
	}
	return root, nil
}

func fetchKernel(ctx context.Context, work, suite string) error {
	dir := filepath.Join(work, "apt")
	a, err := newApt(ctx, dir, suite)
	if err != nil {
		return err
	}
	depends, err := a.run(ctx, "apt-cache", "depends", "linux-image-cloud-amd64")
	if err != nil {
		return err
	}
	_, rest, ok := strings.Cut(depends, "Depends: linux-image-")
	if !ok {
		return fmt.Errorf("linux-image-cloud-amd64 depends on no kernel: %q", depends)
	}
	if _, err := a.run(ctx, "apt-get", "-qq", "download", "linux-image-"+strings.Fields(rest)[0]); err != nil {
		return err
	}
	if err := a.unpack(ctx, work); err != nil {
		return err
	}
	if err := moveModules(work); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// moveModules puts modules where they were before Debian 13, which has them below usr.
func moveModules(root string) error {
	old := filepath.Join(root, "lib/modules")
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(old), 0o755); err != nil {
		return err
	}
	return os.Rename(filepath.Join(root, "usr/lib/modules"), old)
}
