package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	if err := command(os.Stdout).Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "crio-erofs-installer:", err)
		os.Exit(1)
	}
}

// command returns the program's command line. What it does goes to out, a line for each file.
func command(out io.Writer) *cobra.Command {
	var payload, host string
	root := &cobra.Command{
		Use:           "crio-erofs-installer",
		Short:         "Put crio-erofs's files on a node, and take them away",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&payload, "payload", "/payload", "`directory` with the files to install")
	root.PersistentFlags().StringVar(&host, "host", "/host", "`directory` that is the node's root")
	open := func() (*installer, error) { return newInstaller(payload, host, out) }
	root.AddCommand(installCommand(open), uninstallCommand(open), statusCommand(open))
	return root
}

// opener makes the installer when the flags are known.
type opener func() (*installer, error)

func installCommand(open opener) *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use:   "install",
		Short: "Write what is missing or of another version",
		Long: "Write what is missing or of another version. Configuration that was changed on the node stays as it is; a\n" +
			"program that somebody else has put there is an error, before anything is written.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return run(open, (*installer).Install, wait) },
	}
	c.Flags().BoolVar(&wait, "wait", false, "stay until SIGTERM or SIGINT, as a DaemonSet's pod has to")
	return c
}

func uninstallCommand(open opener) *cobra.Command {
	var wait, programs bool
	c := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove the configuration that install has written",
		Long: "Remove the configuration that install has written, unless it was changed since. The programs stay until\n" +
			"CRI-O has been restarted, for systemd goes on naming them until then: remove them with --programs afterwards.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return run(open, func(i *installer) error { return i.Uninstall(programs) }, wait)
		},
	}
	c.Flags().BoolVar(&programs, "programs", false, "remove the programs, too: CRI-O was restarted without them")
	c.Flags().BoolVar(&wait, "wait", false, "stay until SIGTERM or SIGINT, as a DaemonSet's pod has to")
	return c
}

func statusCommand(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Fail unless the node has all files, as this image has them",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return run(open, (*installer).Status, false) },
	}
}

// run does one thing with an installer and, if asked to, waits for the end of the pod.
func run(open opener, do func(*installer) error, wait bool) error {
	i, err := open()
	if err != nil {
		return err
	}
	defer i.Close()
	// Before the work: a pod that is ended meanwhile still finishes it, within its grace period.
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	if err := do(i); err != nil {
		return err
	}
	if wait {
		<-ended
	}
	return nil
}
