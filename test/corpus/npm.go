package corpus

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// npmPackages have some 36,000 files together, most of them under 1 KiB. The version in npmName changes with the list.
var npmPackages = []string{"@mui/icons-material@5.15.0", "core-js@3.36.0", "lodash@4.17.21"}

const npmName = "npm-1"

// NPM returns the path of a tar, in PAX format, of a node_modules folder with more than 30,000 small files. The first
// call for a cache runs npm install, which needs the network.
func NPM(ctx context.Context, cache string) (string, error) {
	dir, err := cached(cache, npmName, func(work string) error {
		tree := filepath.Join(work, "tree")
		if err := os.Mkdir(tree, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(tree, "package.json"), []byte(`{"private":true}`), 0o644); err != nil {
			return err
		}
		args := append([]string{"install", "--ignore-scripts", "--no-audit", "--no-fund", "--legacy-peer-deps",
			"--no-update-notifier"}, npmPackages...)
		if _, err := output(ctx, tree, "npm", args...); err != nil {
			return err
		}
		if _, err := output(ctx, work, "tar", "--format=pax", "--sort=name", "--numeric-owner",
			"--pax-option=delete=atime,delete=ctime", "-C", tree, "-cf", "npm.tar", "."); err != nil {
			return err
		}
		return os.RemoveAll(tree)
	})
	if err != nil {
		return "", fmt.Errorf("npm tree: %w", err)
	}
	return filepath.Join(dir, "npm.tar"), nil
}
