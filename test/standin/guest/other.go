package guest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// Other describes a guest with another init than the stand-in's agent. agent.Boot works in it.
type Other struct {
	Name    string   // of its files in the directory
	Init    string   // the Go package of a program without cgo that becomes /init
	Modules []string // kernel modules to load, apart from those that they depend on

	// MetaPackage is a Debian package that depends on a kernel's; empty: the stand-in's kernel.
	MetaPackage string

	// Root, if not empty, is a folder with another kernel: boot/vmlinuz-* and lib/modules. Its base name tells it from
	// others.
	Root string
}

// BuildOther makes a guest's files in dir, which may be the directory of the stand-in's guest, too: they share kernels.
// Like Build it uses again what is there.
func BuildOther(ctx context.Context, dir, source string, o Other) (*Files, error) {
	dir, unlock, err := open(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	root, err := o.kernelRoot(ctx, dir)
	if err != nil {
		return nil, err
	}
	kernel, err := vmlinuz(root)
	if err != nil {
		return nil, err
	}
	init, err := buildInit(ctx, filepath.Join(dir, o.Name+"-init"), source, o.Init)
	if err != nil {
		return nil, err
	}
	initrd := filepath.Join(dir, o.Name+"-"+filepath.Base(root)+"-"+InitrdName)
	if err := makeInitrd(ctx, initrd, root, init, o.Modules); err != nil {
		return nil, err
	}
	return &Files{Kernel: kernel, Initrd: initrd}, nil
}

// kernelRoot returns the folder with the kernel.
func (o Other) kernelRoot(ctx context.Context, dir string) (string, error) {
	if o.Root != "" {
		return o.Root, nil
	}
	pkg, err := o.kernelPackage(ctx, dir)
	if err != nil {
		return "", err
	}
	return unpackKernel(ctx, dir, pkg)
}

// kernelPackage returns the kernel package, and remembers it: apt is asked once.
func (o Other) kernelPackage(ctx context.Context, dir string) (string, error) {
	if o.MetaPackage == "" {
		return kernelPackage(ctx, dir)
	}
	path := filepath.Join(dir, o.MetaPackage+".package")
	if b, err := os.ReadFile(path); err == nil && len(b) > 0 {
		return strings.TrimSpace(string(b)), nil
	}
	pkg, err := concretePackage(ctx, o.MetaPackage)
	if err != nil {
		return "", err
	}
	return pkg, os.WriteFile(path, []byte(pkg+"\n"), 0o644)
}
