package guest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// initPackage is the program that becomes the guest's init.
const initPackage = "github.com/crio-erofs/crio-erofs/test/standin/cmd/guest-init"

// Build makes the guest's files in dir. What is there already is used again: a second call takes as long as
// `go build` needs to see that nothing changed. source is any directory of this module.
func Build(ctx context.Context, dir, source string) (*Files, error) {
	dir, unlock, err := open(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	pkg, err := kernelPackage(ctx, dir)
	if err != nil {
		return nil, err
	}
	root, err := unpackKernel(ctx, dir, pkg)
	if err != nil {
		return nil, err
	}
	if err = linkKernel(dir, root); err != nil {
		return nil, err
	}
	if err = os.WriteFile(filepath.Join(dir, packageFile), []byte(pkg+"\n"), 0o644); err != nil {
		return nil, err
	}
	agent, err := buildInit(ctx, filepath.Join(dir, "init"), source, initPackage)
	if err != nil {
		return nil, err
	}
	if err := makeInitrd(ctx, filepath.Join(dir, InitrdName), root, agent, wanted); err != nil {
		return nil, err
	}
	return In(dir)
}

// open makes dir and locks it.
func open(dir string) (_ string, unlock func(), err error) {
	if runtime.GOARCH != "amd64" {
		return "", nil, fmt.Errorf("the stand-in's guest runs on amd64 only, not on %s", runtime.GOARCH)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", nil, err
	}
	if err = os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	unlock, err = lock(dir)
	return dir, unlock, err
}

// lock keeps two builds in one directory apart: tests of several packages run at once.
func lock(dir string) (func(), error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

func linkKernel(dir, root string) error {
	kernel, err := vmlinuz(root)
	if err != nil {
		return err
	}
	target, err := filepath.Rel(dir, kernel)
	if err != nil {
		return err
	}
	link := filepath.Join(dir, KernelName)
	if old, err := os.Readlink(link); err == nil && old == target {
		return nil
	}
	tmp := link + ".new"
	os.Remove(tmp)
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, link)
}

func buildInit(ctx context.Context, path, source, pkg string) (string, error) {
	_, err := run(ctx, source, "env", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=",
		"go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, pkg)
	return path, err
}

// makeInitrd writes the initrd unless it is there and was made of the same kernel, init and modules.
func makeInitrd(ctx context.Context, initrd, root, initFile string, modules []string) error {
	init, err := os.ReadFile(initFile)
	if err != nil {
		return err
	}
	recipe := fmt.Sprintf("%s %x %s\n", filepath.Base(root), sha256.Sum256(init), strings.Join(modules, ","))
	old, _ := os.ReadFile(initrd + ".recipe")
	if _, err = os.Stat(initrd); err == nil && string(old) == recipe {
		return nil
	}
	logrus.Infof("making %s", initrd)
	if err = os.RemoveAll(initrd + ".recipe"); err != nil {
		return err
	}
	order, err := loadOrder(ctx, root, modules)
	if err != nil {
		return err
	}
	if err := writeAtomically(initrd, func(w io.Writer) error { return writeInitrd(w, init, order) }); err != nil {
		return err
	}
	return os.WriteFile(initrd+".recipe", []byte(recipe), 0o644)
}

func writeAtomically(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	err = write(w)
	if err == nil {
		err = w.Flush()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// writeInitrd lays out what agent.Boot expects: /init, and /modules with a file per module and their order.
func writeInitrd(w io.Writer, init []byte, modules []module) error {
	c := &cpioWriter{w: w}
	for _, dir := range []string{"dev", "proc", "sys", "run", "modules", "newroot"} {
		c.add(dir, cpioDir|0o755, nil)
	}
	c.add("init", cpioRegular|0o755, init)
	var order strings.Builder
	for _, m := range modules {
		fmt.Fprintln(&order, m.name)
		c.add("modules/"+m.name+".ko", cpioRegular|0o644, m.data)
	}
	c.add("modules/order", cpioRegular|0o644, []byte(order.String()))
	return c.close()
}
