// Package volumes has the commands for volumes as files, which need no store and no root.
package volumes

import "github.com/spf13/cobra"

// Commands returns the commands of this package.
func Commands() []*cobra.Command {
	return []*cobra.Command{newBuildCommand(), newMergeCommand(), newVerifyCommand(), newCatTarCommand()}
}
