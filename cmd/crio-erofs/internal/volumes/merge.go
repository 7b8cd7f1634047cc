package volumes

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

type mergeOptions struct {
	format output.Format
}

func newMergeCommand() *cobra.Command {
	var o mergeOptions
	cmd := &cobra.Command{
		Use:   "merge [flags] OUT LAYER...",
		Short: "Make one volume of an image's layer volumes",
		Long: `merge makes a volume with the union of layer volumes, the lowest given first, as an overlay of them would show it.
File data is shared with the layers' files where the file system can (XFS, btrfs), and copied elsewhere. The layers' trees and
metadata are checked; their data is not read, its damage shows when the volume is read.
OUT appears when it is complete, or not at all. Equal layers give an equal volume.`,
		Args: cli.MinimumArgs(2, "a file to make and at least one layer"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), args[0], args[1:])
		},
	}
	output.AddFlag(cmd, &o.format, mergeReport{})
	return cmd
}

// mergeReport is what merge prints.
type mergeReport struct {
	Report
	SharedBytes int64 `json:"shared_bytes"`
	CopiedBytes int64 `json:"copied_bytes"`
}

func (o *mergeOptions) run(ctx context.Context, stdout io.Writer, out string, paths []string) (err error) {
	if err := cli.CheckOutput(out, paths...); err != nil {
		return err
	}
	layers := make([]volume.Layer, len(paths))
	for i, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		layers[i].File = f
	}
	var d *volume.Description
	var stats *volume.MergeStats
	err = volume.WriteFile(out, func(f *os.File) error {
		d, stats, err = volume.Merge(ctx, f, layers)
		return err
	})
	if err != nil {
		return fmt.Errorf("merge %s: %w", out, err)
	}
	r := mergeReport{Report: NewReport(d), SharedBytes: stats.SharedBytes, CopiedBytes: stats.CopiedBytes}
	return o.format.Print(stdout, r, append(r.Fields(), output.Pairs("shared_bytes", output.Bytes(r.SharedBytes),
		"copied_bytes", output.Bytes(r.CopiedBytes))...))
}
