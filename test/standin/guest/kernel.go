package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"
)

// metaPackage depends on the newest cloud kernel of the Debian release. Cloud kernels are the smallest that have all
// the guest needs.
const metaPackage = "linux-image-cloud-amd64"

// packageFile has the name of the package that was unpacked last, so that apt is not asked again.
const packageFile = "kernel-package"

// unpackKernel makes sure that the package's files are below dir and returns where.
func unpackKernel(ctx context.Context, dir, pkg string) (string, error) {
	root := filepath.Join(dir, "kernel", pkg)
	if _, err := vmlinuz(root); err == nil {
		return root, nil
	}
	tmp, err := os.MkdirTemp(dir, "kernel-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	logrus.Infof("downloading %s", pkg)
	// apt-get's sandbox user may not be able to write to the directory; it then warns and goes on as root.
	if _, err = run(ctx, tmp, "apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", pkg); err != nil {
		return "", fmt.Errorf("%w; does `apt-get update` help?", err)
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("apt-get download %s left %d packages in %s", pkg, len(debs), tmp)
	}
	unpacked := filepath.Join(tmp, "root")
	if _, err := run(ctx, tmp, "dpkg-deb", "-x", debs[0], unpacked); err != nil {
		return "", err
	}
	if _, err := vmlinuz(unpacked); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		return "", err
	}
	if err := os.RemoveAll(root); err != nil {
		return "", err
	}
	return root, os.Rename(unpacked, root)
}

// kernelPackage returns the concrete kernel package to use: the one asked for, one that was unpacked before, or the
// one that Debian offers now.
func kernelPackage(ctx context.Context, dir string) (string, error) {
	if pkg := os.Getenv(EnvPackage); pkg != "" {
		return pkg, nil
	}
	if b, err := os.ReadFile(filepath.Join(dir, packageFile)); err == nil && len(b) > 0 {
		return strings.TrimSpace(string(b)), nil
	}
	return concretePackage(ctx, metaPackage)
}

// concretePackage returns the kernel package that a package of Debian's depends on.
func concretePackage(ctx context.Context, meta string) (string, error) {
	out, err := run(ctx, "/", "apt-cache", "depends", meta)
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(out, "\n") {
		if pkg, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: linux-image-"); ok {
			return "linux-image-" + pkg, nil
		}
	}
	return "", fmt.Errorf("apt does not know %s: run `apt-get update`, or name a kernel package in %s",
		meta, EnvPackage)
}

func vmlinuz(root string) (string, error) {
	found, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d kernels in %s/boot, want 1", len(found), root)
	}
	return found[0], nil
}

// run runs a program and returns its standard output. Its error has the program's standard error.
func run(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%w: the guest is made of Debian packages and needs Debian's tools", err)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}
