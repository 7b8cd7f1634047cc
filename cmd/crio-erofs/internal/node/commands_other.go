//go:build !linux

package node

import "github.com/spf13/cobra"

// Commands returns none: nodes run Linux.
func Commands() []*cobra.Command { return nil }
