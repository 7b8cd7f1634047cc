package store

import (
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
)

// Commands returns the commands of this package.
func Commands() []*cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Look after a node's store",
		Long: `store is for the volumes in a node's container storage: what there is, what it takes, whether it is whole, and what nothing
needs. All of it works beside a running CRI-O. The store's files are root's.`,
	}
	cmd.AddCommand(newLsCommand(), newDfCommand(), newStoreVerifyCommand(), newPruneCommand())
	return []*cobra.Command{cli.Group(cmd)}
}
