// Command crio-erofs makes, checks and shows volumes: EROFS images with a dm-verity tree.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the Makefile.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "crio-erofs:", err)
		os.Exit(exitCode(err))
	}
}

// Exit codes, part of the command's interface.
const (
	exitFailure = 1 // the command could not do what was asked, or a volume is not what it should be
	exitUsage   = 2 // wrong arguments
)

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func exitCode(err error) int {
	if errors.As(err, new(usageError)) {
		return exitUsage
	}
	return exitFailure
}

func newCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "crio-erofs",
		Short: "Make, check and show EROFS volumes with dm-verity",
		Long: `crio-erofs makes, checks and shows volumes: EROFS images of container layers with a dm-verity hash tree.
The graph driver of CRI-O makes the same volumes while it pulls an image: equal layers give equal root hashes.

EXIT STATUS
  0  done; for verify: everything fits
  1  not done, or the volume is damaged or not the one that was asked for
  2  wrong arguments`,
		Version:           version,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	cmd.AddCommand(newBuildCommand(), newMergeCommand(), newVerifyCommand(), newInspectCommand(), newCatTarCommand(),
		newMeasureCommand(), newAttestCommand(), newVerifyImageCommand(), newTrustCommand(), newOptionCommand())
	for _, newLinuxCommand := range linuxCommands {
		cmd.AddCommand(newLinuxCommand())
	}
	return cmd
}

// linuxCommands are about a node, which runs Linux.
var linuxCommands []func() *cobra.Command

// exactArgs is cobra.ExactArgs with our exit code and a usage line.
func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w\nusage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}
