package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"
)

// fetchTrixie makes, below $1, the folder root with the erofs-utils of the Debian mirror $2's trixie and all libraries
// that it needs, the C library included. apt is told to take $1 for a machine with nothing installed.
const fetchTrixie = `
mkdir -p "$1/apt/lists/partial" "$1/apt/archives/partial" "$1/root"
: >"$1/apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $2 trixie main" >"$1/apt/sources.list"
cat >"$1/apt/apt.conf" <<END
Dir::Etc::sourcelist "$1/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "$1/apt";
Dir::State::status "$1/apt/status";
Dir::Cache "$1/apt";
APT::Sandbox::User "root";
END
export APT_CONFIG="$1/apt/apt.conf"
apt-get update -qq
apt-get install -qq --download-only -y --no-install-recommends erofs-utils >&2
for deb in "$1"/apt/archives/*.deb; do dpkg-deb --extract "$deb" "$1/root"; done
rm -rf "$1/apt"
`

// trixieMkfs returns the command line with which Debian trixie's mkfs.erofs starts on this machine. Debian bookworm's,
// 1.5, cannot read tars. It is not installed: it has the C library that it needs beside it in dir.
func trixieMkfs(ctx context.Context, dir string) ([]string, error) {
	root := filepath.Join(dir, "root")
	mkfs := filepath.Join(root, "usr/bin/mkfs.erofs")
	if _, err := os.Stat(mkfs); errors.Is(err, os.ErrNotExist) {
		logrus.Info("Fetching mkfs.erofs of Debian trixie; this is done once")
		if err := fetch(ctx, dir); err != nil {
			return nil, fmt.Errorf("mkfs.erofs of Debian trixie: %w", err)
		}
	}
	loaders, err := filepath.Glob(filepath.Join(root, "usr/lib*/ld-linux-*.so.?"))
	if err != nil || len(loaders) == 0 {
		return nil, fmt.Errorf("%s has no dynamic loader: delete %s", root, dir)
	}
	libraries, err := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu*"))
	if err != nil || len(libraries) == 0 {
		return nil, fmt.Errorf("%s has no libraries: delete %s", root, dir)
	}
	return []string{loaders[0], "--library-path", libraries[0], mkfs, "--quiet"}, nil
}

// fetch makes dir complete or not at all.
func fetch(ctx context.Context, dir string) (err error) {
	mirror, err := aptMirror(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(dir, "work.")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if _, err := sh(ctx, fetchTrixie, work, mirror); err != nil {
		return err
	}
	return os.Rename(filepath.Join(work, "root"), filepath.Join(dir, "root"))
}
