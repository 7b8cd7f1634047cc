// Package images has the commands for images wherever they are: what their volumes' root hashes are, who has signed
// that, and what a node trusts of it.
package images

import "github.com/spf13/cobra"

// Commands returns the commands of this package.
func Commands() []*cobra.Command {
	return []*cobra.Command{newMeasureCommand(), newAttestCommand(), newVerifyImageCommand(), newTrustCommand()}
}
