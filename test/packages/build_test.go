package packages_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/env"
)

// built are the packages that the tests install, and a later version of the node's part.
var built struct {
	dir, manual string
	packages    map[string]string // "crio-erofs.deb" → path; "crio-erofs-next.deb" is the later one
	err         error
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "packages-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built.dir = dir
	built.manual = filepath.Join(dir, "manual")
	built.packages, built.err = buildAll(context.Background(), dir)
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// buildAll makes what "make packages" makes.
func buildAll(ctx context.Context, dir string) (map[string]string, error) {
	for _, program := range []string{"crio", "crio-erofs", "crio-erofs-hook", "containerd-shim-kata-erofs-v2", "pinns"} {
		if _, err := env.Bin(program); err != nil {
			return nil, err
		}
	}
	if err := script(ctx, "manual.sh", built.manual, "v1.2.3"); err != nil {
		return nil, err
	}
	packages := map[string]string{}
	for _, b := range []struct{ version, parts, suffix string }{{"v1.2.3", "node crio", ""}, {"v1.2.4", "node", "-next"}} {
		out := filepath.Join(dir, b.version)
		if err := script(ctx, "packages.sh", out, b.version, b.parts); err != nil {
			return nil, err
		}
		for _, name := range []string{"crio-erofs", "cri-o-erofs"} {
			for _, format := range []string{"deb", "rpm"} {
				found, err := filepath.Glob(filepath.Join(out, name+"?[0-9]*."+format))
				if err != nil {
					return nil, err
				}
				if len(found) == 1 {
					packages[name+b.suffix+"."+format] = found[0]
				}
			}
		}
	}
	if len(packages) != 6 {
		return nil, fmt.Errorf("packages.sh made %v", packages)
	}
	return packages, nil
}

// script runs a program of contrib/packaging.
func script(ctx context.Context, name string, args ...string) error {
	root, err := env.Root()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "contrib/packaging", name), args...)
	cmd.Env = append(os.Environ(), "MANUAL="+built.manual, "SOURCE_DATE_EPOCH=1750000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}

// packageFile returns the path of a package.
func packageFile(t *testing.T, name string) string {
	t.Helper()
	if errors.Is(built.err, os.ErrNotExist) && os.Getenv("CI") == "" {
		t.Skip(built.err)
	}
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.packages[name]
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("owners, chroot and CRI-O need root")
	}
}

// run runs a program of this machine and returns what it wrote.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skipf("%v: run 'make deps'", err)
	}
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}
