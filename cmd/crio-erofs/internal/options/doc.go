// Package options has the commands for ExtraOption and KataVirtualVolume.
package options

import "github.com/spf13/cobra"

// Commands returns the commands of this package.
func Commands() []*cobra.Command { return []*cobra.Command{newOptionCommand()} }
