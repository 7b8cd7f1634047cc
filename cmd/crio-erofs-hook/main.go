// Command crio-erofs-hook puts this project's annotations on CRI-O's containers.
//
// Started by CRI-O from its NRI plugin directory, or as "crio-erofs-hook nri", it is an NRI plugin; "crio-erofs-hook
// oci" has hooks for OCI runtimes and engines; "crio-erofs-hook annotations" shows what the plugin would do with a
// container.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/hooks/nri"
)

// version is set by the linker, see the Makefile.
var version = "unknown"

func main() {
	// The plugin lives as long as the node and works for milliseconds a day: rather collect often than keep memory.
	debug.SetGCPercent(20)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := newCommand().ExecuteContext(ctx)
	if err == nil {
		return
	}
	if p := (plainError{}); errors.As(err, &p) {
		fmt.Fprintln(os.Stderr, "crio-erofs-hook:", p)
	} else {
		logrus.Error(err)
	}
	os.Exit(1)
}

func newCommand() *cobra.Command {
	var logLevel string
	cmd := &cobra.Command{
		Use:   "crio-erofs-hook",
		Short: "Put the annotations for EROFS volumes on CRI-O's containers",
		Long: "Put the annotations for EROFS volumes on CRI-O's containers.\n\n" +
			"CRI-O starts it without arguments from its NRI plugin directory (/opt/nri/plugins/10-crio-erofs).",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			level, err := logrus.ParseLevel(logLevel)
			if err != nil {
				return fmt.Errorf("--log-level: %w", err)
			}
			logrus.SetLevel(level)
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if nri.Preinstalled() {
				return runPreinstalled(cmd.Context())
			}
			return cmd.Help()
		},
	}
	cmd.PersistentFlags().StringVar(&logLevel, "log-level", "info", "debug, info, warning or error")
	cmd.AddCommand(newNRICommand(), newOCICommand(), newAnnotationsCommand(), newVersionCommand())
	for _, newBuildCommand := range buildCommands {
		cmd.AddCommand(newBuildCommand())
	}
	return cmd
}

// buildCommands are for the build only, see manual.go.
var buildCommands []func() *cobra.Command

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "crio-erofs-hook", version)
			return err
		},
	}
}
