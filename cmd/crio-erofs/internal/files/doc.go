// Package files has the commands that look into volumes and images.
package files

import "github.com/spf13/cobra"

// Commands returns the commands of this package.
func Commands() []*cobra.Command {
	return []*cobra.Command{newLsCommand(), newCatCommand(), newDiffCommand()}
}
