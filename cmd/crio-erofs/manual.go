//go:build manual

package main

import (
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/internal/manual"
)

func init() {
	buildCommands = append(buildCommands, func() *cobra.Command {
		return manual.NewCommand(manual.Source{
			Section: "1", Version: version,
			SeeAlso: []string{"crio-erofs-hook(8)", "containerd-shim-kata-erofs-v2(8)", "crio-erofs-config.toml(5)", "crio(8)"},
		})
	})
}
