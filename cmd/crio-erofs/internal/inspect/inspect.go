package inspect

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/target"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
)

type inspectOptions struct {
	roots  nodestore.Roots
	files  bool
	format output.Format
}

func newInspectCommand() *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect [flags] VOLUME|IMAGE|CONTAINER",
		Short: "Show what is known of a volume, an image or a container",
		Long: `inspect shows all there is to know of one of these:

  VOLUME     a file, or the beginning of the name or root hash of a volume in the store: its superblocks, and what is in it,
             with --files by name. The root hash is the one that the tree's top block has; the data is not checked, verify
             does that.
  IMAGE      of the store, by name or the beginning of its id: its volumes and which containers use it.
  CONTAINER  of CRI-O, by the beginning of its id: how it has its image, its volumes with their root hashes, its manifest,
             its mounts, and what it writes to.

The store is read without a lock and nothing is changed, so this can be done at any time.`,
		Example: `  crio-erofs inspect layer.erofs
  crio-erofs inspect --files layer.erofs
  crio-erofs inspect quay.io/fedora/fedora:42
  crio-erofs inspect --format '{{.Mode}} {{.Manifest.Image.Verity.RootHash}}' $(crictl ps -q --name app)`,
		Args: cli.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), args[0])
		},
	}
	target.AddFlag(cmd, &o.roots)
	cmd.Flags().BoolVar(&o.files, "files", false, "of a volume: list every file, too")
	output.AddFlag(cmd, &o.format, volumeInspection{})
	return cmd
}

func (o *inspectOptions) run(ctx context.Context, stdout io.Writer, arg string) error {
	if _, err := os.Stat(arg); err == nil || strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, ".") {
		return o.volume(ctx, stdout, arg)
	}
	return o.stored(ctx, stdout, arg)
}
