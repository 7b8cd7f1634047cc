package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/crio-erofs/crio-erofs/test/env"
)

var debianConfig = v1.Config{
	Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	Cmd: []string{"/bin/sh"},
}

// Small is a shell and the GNU core utilities of Debian in three layers, the smallest image that is fun to look at.
var Small = Image{
	Name:    "small",
	Version: "2",
	Config:  debianConfig,
	layers: func(ctx context.Context, work string) ([]layer, error) {
		base, err := unpack(ctx, work, "libraries", "base-files", "libc6", "libselinux1", "libpcre2-8-0", "libacl1",
			"libattr1", "libgmp10", "libtinfo6")
		if err != nil {
			return nil, err
		}
		if err := linkUsr(base); err != nil {
			return nil, err
		}
		shell, err := unpack(ctx, work, "shell", "dash", "coreutils", "grep", "sed")
		if err != nil {
			return nil, err
		}
		hello := filepath.Join(work, "hello")
		if err := writeTree(hello, map[string]string{
			"etc/motd":          "This file came out of an EROFS volume.\n",
			"etc/.wh.issue":     "",
			"etc/.wh.issue.net": "",
		}); err != nil {
			return nil, err
		}
		return []layer{
			{name: "libraries", dir: base, format: formatPAX, compression: compression.GZip},
			{name: "shell", dir: shell, format: formatPAX, compression: compression.ZStd},
			{name: "hello", dir: hello, format: formatGNU, compression: compression.GZip},
		}, nil
	},
}

// Debian is a complete minimal Debian in six layers, with whiteouts, opaque folders and everything that makes a
// layer hard to convert (see odd.go).
var Debian = Image{
	Name:    "debian",
	Version: "2",
	Config:  debianConfig,
	layers: func(ctx context.Context, work string) ([]layer, error) {
		base := filepath.Join(work, "minbase")
		mirror, codename, err := env.DebianSource(ctx)
		if err != nil {
			return nil, err
		}
		if err := run(ctx, nil, "debootstrap", "--variant=minbase", codename, base, mirror); err != nil {
			return nil, err
		}
		share := filepath.Join(work, "share")
		if err := os.MkdirAll(filepath.Join(share, "usr"), 0o755); err != nil {
			return nil, err
		}
		if err := os.Rename(filepath.Join(base, "usr/share"), filepath.Join(share, "usr/share")); err != nil {
			return nil, err
		}
		tools, err := unpack(ctx, work, "tools", "attr", "acl", "file", "libmagic1", "libmagic-mgc", "iputils-ping")
		if err != nil {
			return nil, err
		}
		removed := filepath.Join(work, "removed")
		if err := writeTree(removed, map[string]string{
			"usr/share/.wh.doc":            "", // a whole folder of the layers below
			"usr/share/man/.wh..wh..opq":   "", // hides what is below, keeps what this layer has
			"usr/share/man/README":         "manual pages were removed\n",
			"etc/.wh.issue.net":            "",
			"usr/share/zoneinfo/.wh.right": "",
			"etc/apt":                      "a file where a folder was\n",
			"etc/debian_version/is":        "a folder where a file was\n",
		}); err != nil {
			return nil, err
		}
		odd := filepath.Join(work, "odd")
		if err := writeOdd(odd); err != nil {
			return nil, fmt.Errorf("odd files: %w", err)
		}
		sparse := filepath.Join(work, "sparse")
		if err := os.Rename(filepath.Join(odd, sparseDir), sparse); err != nil {
			return nil, err
		}
		return []layer{
			{name: "minbase", dir: base, format: formatPAX, compression: compression.GZip},
			{name: "share", dir: share, format: formatGNU, compression: compression.ZStd},
			{name: "tools", dir: tools, format: formatGNU, compression: compression.GZip},
			{name: "removed", dir: removed, format: formatGNU, compression: compression.GZip},
			{name: "odd", dir: odd, format: formatPAX, compression: compression.ZStd},
			{name: "sparse", dir: sparse, format: formatGNU, compression: compression.GZip},
		}, nil
	},
}

// merged lists the folders that Debian has merged into /usr.
var merged = []string{"bin", "sbin", "lib", "lib64"}

// unpack fetches Debian packages and unpacks them into a new folder of work, without running their scripts.
func unpack(ctx context.Context, work, name string, packages ...string) (string, error) {
	root, archives := filepath.Join(work, name), filepath.Join(work, name+"-archives")
	if err := os.MkdirAll(archives, 0o755); err != nil {
		return "", err
	}
	script := `cd "$0" && apt-get download -qq "$@"`
	args := append([]string{"-c", script, archives}, packages...)
	if err := run(ctx, nil, "sh", args...); err != nil {
		// A machine that never ran it knows no package at all.
		if err := run(ctx, nil, "apt-get", "update", "-qq"); err != nil {
			return "", err
		}
		if err := run(ctx, nil, "sh", args...); err != nil {
			return "", err
		}
	}
	files, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return "", err
	}
	if len(files) != len(packages) {
		return "", fmt.Errorf("apt-get downloaded %d archives for the %d packages %s", len(files), len(packages),
			strings.Join(packages, ", "))
	}
	for _, deb := range files {
		if err := run(ctx, nil, "dpkg-deb", "--extract", deb, root); err != nil {
			return "", err
		}
	}
	return root, mergeUsr(ctx, root)
}

// mergeUsr moves what packages still have below the old names into /usr, where a Debian of today has it.
func mergeUsr(ctx context.Context, root string) error {
	for _, name := range merged {
		from, to := filepath.Join(root, name), filepath.Join(root, "usr", name)
		if _, err := os.Stat(from); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if err := run(ctx, nil, "cp", "--archive", from+"/.", to); err != nil {
			return err
		}
		if err := os.RemoveAll(from); err != nil {
			return err
		}
	}
	return nil
}

// linkUsr makes the symbolic links from the old names into /usr.
func linkUsr(root string) error {
	for _, name := range merged {
		if err := os.MkdirAll(filepath.Join(root, "usr", name), 0o755); err != nil {
			return err
		}
		if err := os.Symlink("usr/"+name, filepath.Join(root, name)); err != nil {
			return err
		}
	}
	return nil
}

// writeTree writes regular files, given by path and content, below root.
func writeTree(root string, files map[string]string) error {
	for path, content := range files {
		file := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
