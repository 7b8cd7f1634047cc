package main

import (
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/hooks/oci"
	"github.com/crio-erofs/crio-erofs/kata/trust"
)

func newOCICommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "oci",
		Short: "Be an OCI hook",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGuardCommand(), newPrecreateCommand())
	return cmd
}

func newGuardCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "createRuntime",
		Short: "Stop a container that asks for volumes and does not have them (the guard)",
		Long: "Stop a container that asks for volumes and does not have them. It reads the container's state on standard\n" +
			"input, as an OCI runtime hands it to its hooks, and exits with 1 and the reason if the container must not be\n" +
			"started. contrib/hooks.d has the file that makes CRI-O run it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return plain(oci.Guard(cmd.InOrStdin()))
		},
	}
}

func newPrecreateCommand() *cobra.Command {
	var choice choiceFlags
	cmd := &cobra.Command{
		Use:   "precreate",
		Short: "Put the annotations on an OCI configuration, from standard input to standard output",
		Long: "Put the annotations on an OCI configuration, from standard input to standard output: for engines that have\n" +
			"hooks of the stage precreate, such as podman. CRI-O has not, and does not start with a hooks file that names\n" +
			"it; there the NRI plugin does the same.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := choice.load()
			if err != nil {
				return plain(err)
			}
			return plain(oci.Precreate(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), config,
				trust.NextTo(choice.config), choice.handler))
		},
	}
	choice.add(cmd)
	return cmd
}

// plainError is an error that a runtime quotes in its own message: it is printed without a log line's frame.
type plainError struct{ error }

func plain(err error) error {
	if err == nil {
		return nil
	}
	return plainError{err}
}
