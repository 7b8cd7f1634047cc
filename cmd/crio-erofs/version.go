package main

import (
	"runtime"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver/erofs"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// versions is what version prints.
type versions struct {
	Version            string          `json:"version"`
	FormatVersion      int             `json:"format_version"` // of volumes: equal layers and format versions give equal root hashes
	TarfsFormatVersion int             `json:"tarfs_format_version"`
	Layouts            []volume.Layout `json:"layouts"`
	ManifestVersion    int             `json:"manifest_version"` // of what the driver tells the hook and the shim
	Go                 string          `json:"go"`
	Platform           string          `json:"platform"`
}

func newVersionCommand() *cobra.Command {
	var format output.Format
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program and of what it makes",
		Long: `version shows the version of this program, of the format of volumes (equal layers have equal root hashes where this is equal), and
of the manifests by which driver, hook and shim know each other. What the kernel of a node can do, doctor shows.`,
		Example: "  crio-erofs version\n  crio-erofs version --format '{{.FormatVersion}}'",
		Args:    cli.ExactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := versions{Version: version, FormatVersion: erofs.FormatVersion, TarfsFormatVersion: erofs.TarfsFormatVersion,
				ManifestVersion: volume.ManifestVersion,
				Layouts:         []volume.Layout{volume.LayoutAligned, volume.LayoutTarfs}, Go: runtime.Version(),
				Platform: runtime.GOOS + "/" + runtime.GOARCH}
			return format.Print(cmd.OutOrStdout(), v, output.Pairs("version", v.Version, "format_version", v.FormatVersion,
				"tarfs_format_version", v.TarfsFormatVersion, "layouts", "aligned, tarfs", "manifest_version", v.ManifestVersion, "go", v.Go, "platform", v.Platform))
		},
	}
	output.AddFlag(cmd, &format, versions{})
	return cmd
}
