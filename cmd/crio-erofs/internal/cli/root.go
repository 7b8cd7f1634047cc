package cli

import "github.com/spf13/cobra"

// NewRoot returns the program's root command, without any others.
func NewRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "crio-erofs",
		Short: "Make, check and show EROFS volumes with dm-verity",
		Long: `crio-erofs makes, checks and shows volumes: EROFS images of container layers with a dm-verity hash tree.
The graph driver of CRI-O makes the same volumes while it pulls an image: equal layers give equal root hashes.

EXIT STATUS
  0  done; for verify: everything fits
  1  not done, or the volume is damaged or not the one that was asked for
  2  wrong arguments
  3  of doctor: nothing is known to be wrong, but something could not be told`,
		Version:       Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usage(err) })
	return Group(root)
}
