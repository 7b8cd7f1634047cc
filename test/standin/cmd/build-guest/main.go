// Command build-guest makes the kernel and initrd that the stand-in for Kata boots. It needs apt (without installing
// anything) and Go, and is quick when nothing changed.
package main

import (
	"fmt"
	"os"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/test/standin/guest"
)

func main() {
	logrus.SetOutput(os.Stderr)
	if err := newCommand().Execute(); err != nil {
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	dir := os.Getenv(guest.EnvDir)
	if dir == "" {
		dir = ".cache/guest"
	}
	cmd := &cobra.Command{
		Use:          "build-guest",
		Short:        "Make the kernel and initrd of the stand-in's VM and print their paths",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			files, err := guest.Build(cmd.Context(), dir, ".")
			if err != nil {
				return err
			}
			fmt.Println(files.Kernel)
			fmt.Println(files.Initrd)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", dir, "directory to make them in; also from "+guest.EnvDir)
	return cmd
}
