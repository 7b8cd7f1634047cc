package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes, part of the command's interface.
const (
	ExitFailure = 1 // the command could not do what was asked, or a volume is not what it should be
	ExitUsage   = 2 // wrong arguments
	ExitUnknown = 3 // of doctor: nothing is known to be wrong, but something could not be told
)

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage makes err a mistake in the command line.
func Usage(err error) error { return usageError{err} }

// unknownError says that there was no answer to what was asked.
type unknownError struct{ error }

func (e unknownError) Unwrap() error { return e.error }

// Unknown makes err one that says that there was no answer to what was asked.
func Unknown(err error) error { return unknownError{err} }

// ExitCode returns the exit code that err ends the program with.
func ExitCode(err error) int {
	if errors.As(err, new(usageError)) {
		return ExitUsage
	}
	if errors.As(err, new(unknownError)) {
		return ExitUnknown
	}
	return ExitFailure
}

// ExactArgs is cobra.ExactArgs with our exit code and a usage line.
func ExactArgs(n int) cobra.PositionalArgs { return args(cobra.ExactArgs(n)) }

// MaximumArgs is cobra.MaximumNArgs with our exit code and a usage line.
func MaximumArgs(n int) cobra.PositionalArgs { return args(cobra.MaximumNArgs(n)) }

// MinimumArgs wants n arguments or more; what names them.
func MinimumArgs(n int, what string) cobra.PositionalArgs {
	return args(func(_ *cobra.Command, args []string) error {
		if len(args) < n {
			return fmt.Errorf("want %s", what)
		}
		return nil
	})
}

func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return Usage(fmt.Errorf("%w\nusage: %s", err, cmd.UseLine()))
		}
		return nil
	}
}

// Group makes a command one that only has others below it: without one of these it shows its help, and of any other it
// says which were meant.
func Group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		text := fmt.Sprintf("%s has no command %q", cmd.CommandPath(), args[0])
		if cmd.SuggestionsMinimumDistance <= 0 {
			cmd.SuggestionsMinimumDistance = 2
		}
		if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
			text += ": did you mean " + strings.Join(similar, " or ") + "?"
		}
		return Usage(fmt.Errorf("%s\nusage: %s [command]", text, cmd.CommandPath()))
	}
	return cmd
}
