//go:build !linux

package disks

import "github.com/spf13/cobra"

// Commands returns the commands of this package that need no Linux.
func Commands() []*cobra.Command { return []*cobra.Command{newExportCommand()} }
