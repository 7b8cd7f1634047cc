package target

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/crioconfig"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
)

// imageStoreOption is the driver's option that names additional image stores.
const imageStoreOption = "erofs.imagestore="

// AddFlag adds the flags that say where the node's store is. Without them, it is where CRI-O's configuration says.
func AddFlag(cmd *cobra.Command, roots *nodestore.Roots) {
	const otherwise = " (default: where CRI-O's configuration says)"
	flags := cmd.Flags()
	flags.StringVar(&roots.GraphRoot, "graphroot", "", "the node's container storage"+otherwise)
	flags.StringVar(&roots.RunRoot, "runroot", "", "the part of it that does not outlive a reboot"+otherwise)
	flags.StringSliceVar(&roots.ImageStores, "imagestore", nil, "additional image store, with --graphroot (erofs.imagestore)")
	flags.StringVar(&roots.ImageStore, "images", "", "where images are if they are apart from containers, with --graphroot (CRI-O's imagestore)")
	for _, name := range []string{"runroot", "imagestore", "images"} {
		flags.Lookup(name).Hidden = true // few stores are elsewhere than configured, and fewer have these
	}
	cmd.PreRunE = func(*cobra.Command, []string) error { return complete(roots) }
}

// complete fills in what no flag says.
func complete(roots *nodestore.Roots) error {
	if roots.GraphRoot != "" && roots.RunRoot != "" {
		return nil
	}
	c, err := (&crioconfig.Source{Getenv: os.Getenv}).Read()
	if errors.Is(err, fs.ErrPermission) { // who looks at a volume as a file needs no store
		c, err = &crioconfig.Config{Crio: crioconfig.Crio{GraphRoot: crioconfig.DefaultGraphRoot, RunRoot: crioconfig.DefaultRunRoot}}, nil
	}
	if err != nil {
		return fmt.Errorf("%w; --graphroot and --runroot say where the node's container storage is", err)
	}
	if roots.RunRoot == "" {
		roots.RunRoot = c.RunRoot
	}
	if roots.GraphRoot != "" {
		return nil
	}
	roots.GraphRoot, roots.ImageStore = c.GraphRoot, c.ImageStore
	for _, option := range c.StorageOptions {
		if paths, ok := strings.CutPrefix(option, imageStoreOption); ok {
			roots.ImageStores = append(roots.ImageStores, strings.Split(paths, ",")...)
		}
	}
	return nil
}
