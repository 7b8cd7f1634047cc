// Package packages builds the packages and installs them into trees of their own: what "make packages" makes works where
// nothing else is.
package packages

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// Tree is a Debian, apart from this machine's own.
type Tree struct {
	Changes string // folder with all that differs from a fresh one; visible inside by the same path

	base, archives, script string
}

// NewTree returns a fresh, minimal Debian; what changes in it is kept in the folder changes.
func NewTree(ctx context.Context, changes string) (*Tree, error) {
	root, err := env.Root()
	if err != nil {
		return nil, err
	}
	cache, err := env.Cache()
	if err != nil {
		return nil, err
	}
	t := &Tree{
		Changes: changes, base: filepath.Join(cache, "packages", "debian-1"),
		archives: filepath.Join(cache, "packages", "archives"),
		script:   filepath.Join(root, "test/packages/testdata/enter.sh"),
	}
	for _, dir := range []string{filepath.Join(t.archives, "partial"), changes} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(t.base); errors.Is(err, os.ErrNotExist) {
		return t, makeBase(ctx, cache, t.base)
	}
	return t, nil
}

// makeBase makes a tree of the first two layers of the Debian image, which together are what debootstrap has made.
func makeBase(ctx context.Context, cache, base string) error {
	image, err := images.Debian.Build(ctx, cache)
	if err != nil {
		return err
	}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	if image, err = mutate.AppendLayers(empty.Image, layers[:2]...); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(base), ".making-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	tree := filepath.Join(work, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	if err := images.Extract(ctx, image, tree); err != nil {
		return err
	}
	mirror, codename, err := env.DebianSource(ctx)
	if err != nil {
		return err
	}
	for path, content := range map[string]string{
		// As this machine's apt writes it, whose lists it is to find.
		"etc/apt/sources.list":       fmt.Sprintf("deb %s %s main\n", mirror, codename),
		"etc/apt/apt.conf.d/90test":  "APT::Sandbox::User \"root\";\nAPT::Keep-Downloaded-Packages \"true\";\n",
		"etc/dpkg/dpkg.cfg.d/90test": "force-unsafe-io\n",
		"usr/sbin/policy-rc.d":       "#!/bin/sh\nexit 101\n", // no package may start a service, there is no init
	} {
		if err := os.WriteFile(filepath.Join(tree, path), []byte(content), 0o755); err != nil {
			return err
		}
	}
	err = os.Rename(tree, base)
	if errors.Is(err, os.ErrExist) {
		return nil // another process was faster
	}
	return err
}

// Command returns a command to run in the tree. Killing it kills all that it has started.
func (t *Tree) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, t.script, append([]string{t.base, t.Changes, t.archives}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	return cmd
}

// Run runs a command in the tree and returns what it wrote.
func (t *Tree) Run(ctx context.Context, args ...string) (string, error) {
	out, err := t.Command(ctx, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%q: %w: %s", args, err, out)
	}
	return string(out), nil
}
