// Command outer-vm boots the VM of test/realkata/outer for a person to look into: "outer-vm boot DIR" keeps it running
// until it is interrupted, "outer-vm run DIR COMMAND [ARGUMENT...]" runs a command in it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/realkata/outer"
)

func main() {
	logrus.SetOutput(os.Stderr)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cmd := &cobra.Command{Use: "outer-vm", Short: "A VM with KVM and vsock that sees this machine's files", SilenceUsage: true}
	cmd.AddCommand(bootCommand(), runCommand())
	if err := cmd.ExecuteContext(ctx); err != nil {
		os.Exit(1)
	}
}

func bootCommand() *cobra.Command {
	memory := 4096
	cmd := &cobra.Command{
		Use:   "boot DIR",
		Short: "Boot a VM with its sockets and logs in DIR, until interrupted",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			root, err := env.Root()
			if err != nil {
				return err
			}
			cache, err := env.Cache()
			if err != nil {
				return err
			}
			vm, err := outer.Boot(cmd.Context(), outer.Config{
				Dir: dir, Cache: filepath.Join(cache, "guest"), Source: root, MemoryMiB: memory, DiskGiB: 16,
			})
			if err != nil {
				return err
			}
			defer vm.Close()
			fmt.Println("up")
			<-cmd.Context().Done()
			return nil
		},
	}
	cmd.Flags().IntVar(&memory, "memory", memory, "memory in MiB")
	return cmd
}

func runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run DIR COMMAND [ARGUMENT...]",
		Short: "Run a command in the VM that \"boot DIR\" keeps",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			cwd, err := os.Getwd()
			if err != nil {
				return err
			}
			r := outer.Request{Args: args[1:], Env: os.Environ(), Dir: cwd}
			code, err := outer.Call(cmd.Context(), filepath.Join(args[0], "port.sock"), r, os.Stdout, os.Stderr)
			if err != nil {
				return err
			}
			os.Exit(code)
			return nil
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}
