package store

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/target"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver"
)

type pruneOptions struct {
	roots  nodestore.Roots
	dryRun bool
	all    bool
	format output.Format
}

func newPruneCommand() *cobra.Command {
	var o pruneOptions
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove what nothing in a store needs",
		Long: `prune removes, also while CRI-O runs:

  - image volumes of images that are gone, where the layer that has them is part of another image;
  - with --all also image volumes that no container needs now: the image's next container has its made again;
  - volumes that no layer has, and what processes that died left half-made, which the driver would remove when CRI-O starts;
  - layers that containers/storage does not know.

Images and containers stay; crictl rmi --prune removes unused images. It takes the driver's lock, and if there are layers
to remove containers/storage's too, for which it may wait until a pull is done.`,
		Example: "  crio-erofs store prune --dry-run\n  crio-erofs store prune --all",
		Args:    cli.ExactArgs(0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	target.AddFlag(cmd, &o.roots)
	cmd.Flags().BoolVarP(&o.dryRun, "dry-run", "n", false, "only show what would be removed")
	cmd.Flags().BoolVarP(&o.all, "all", "a", false, "also image volumes that no container needs now")
	output.AddFlag(cmd, &o.format, driver.Leftover{})
	return cmd
}

func (o *pruneOptions) run(ctx context.Context, stdout io.Writer) error {
	p, err := nodestore.NewPruner(&o.roots, o.dryRun)
	if err != nil {
		return err
	}
	found, pruneErr := p.Prune(ctx, o.all)
	t := output.NewTable(output.Column{Name: "KIND"}, output.Column{Name: "SIZE", Right: true}, output.Column{Name: "WHY", Cut: 20},
		output.Column{Name: "PATH"})
	var sum int64
	for _, l := range found {
		t.Add(l.Kind, output.Size(l.Bytes), l.Why, l.Path)
		sum += l.Bytes
	}
	verb := "removed"
	if o.dryRun {
		verb = "to be removed"
	}
	blocks := []output.Block{output.Text(fmt.Sprintf("%s: %d, %s", verb, len(found), output.Size(sum)))}
	if len(found) > 0 {
		blocks = append([]output.Block{t}, blocks...)
	}
	return errors.Join(o.format.Print(stdout, found, blocks...), pruneErr)
}
