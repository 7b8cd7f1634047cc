package volumes

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

func newCatTarCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cat-tar VOLUME",
		Short: "Write the layer's tar out of a volume of layout tarfs",
		Long:  "cat-tar writes the layer's tar, byte for byte as it was, to standard output. It does not check it; verify does.",
		Args:  cli.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, size, err := cli.OpenVolume(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			info, err := volume.Inspect(f, size)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			tar, err := info.TarReader(f)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			_, err = io.Copy(cmd.OutOrStdout(), cli.NewReader(cmd.Context(), tar))
			return err
		},
	}
}
