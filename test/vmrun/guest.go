package vmrun

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/crio-erofs/crio-erofs/test/standin/guest"
	"github.com/crio-erofs/crio-erofs/test/vmrun/proto"
)

// Kernels: Debian packages that depend on the kernel's.
const (
	// Kernel61 has neither file-backed mounts nor "lowerdir+".
	Kernel61 = "linux-image-cloud-amd64"
	// Kernel612 has both. It comes from bookworm-backports.
	Kernel612 = "linux-image-6.12-cloud-amd64"
)

// modules are what storage on a node needs.
var modules = []string{
	"virtio_pci", "virtio_console", "virtio_blk",
	"loop", "dm_verity", "erofs", "overlay", "ext4", "xfs", "btrfs", "quota_v2",
}

// Build makes kernel and initramfs in dir, or finds them there. source is any directory of this module.
func Build(ctx context.Context, dir, source, kernel string) (*guest.Files, error) {
	return guest.BuildOther(ctx, dir, source, guest.Other{
		Name: "vmrun", Init: "github.com/crio-erofs/crio-erofs/test/vmrun/cmd/vmrun-init",
		Modules: modules, MetaPackage: kernel,
	})
}

// writeInitrd puts the program and its files behind the guest's own.
func writeInitrd(path string, cfg *Config) (err error) {
	base, err := os.ReadFile(cfg.Guest.Initrd)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(base); err != nil {
		return err
	}
	tree := guest.NewTree(f)
	if err := addFiles(tree, cfg); err != nil {
		return err
	}
	return tree.Close()
}

func addFiles(tree *guest.Tree, cfg *Config) error {
	plan, err := json.Marshal(cfg.Plan)
	if err != nil {
		return err
	}
	tree.Write(proto.PlanPath, 0o644, plan)
	// Programs and libraries want a user database.
	tree.Write("/etc/passwd", 0o644, []byte("root:x:0:0:root:/:/bin/sh\n"))
	tree.Write("/etc/group", 0o644, []byte("root:x:0:\n"))
	for name, source := range cfg.Files {
		if err := tree.Add(name, source); err != nil {
			return err
		}
	}
	for _, name := range cfg.Tools {
		if err := tree.Tool(filepath.Base(name)); err != nil {
			return err
		}
	}
	return nil
}
