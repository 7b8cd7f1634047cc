// Package inspect has the command that shows all there is to know of a volume, an image or a container.
package inspect

import "github.com/spf13/cobra"

// Commands returns the commands of this package.
func Commands() []*cobra.Command { return []*cobra.Command{newInspectCommand()} }
