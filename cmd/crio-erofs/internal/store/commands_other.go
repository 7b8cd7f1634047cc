//go:build !linux

package store

import "github.com/spf13/cobra"

// Commands returns the commands of this package: none, since stores are on nodes, which run Linux.
func Commands() []*cobra.Command { return nil }
