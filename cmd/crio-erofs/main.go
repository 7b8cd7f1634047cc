// Command crio-erofs makes, checks and shows volumes: EROFS images with a dm-verity tree.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
)

// version is set by the Makefile.
var version = "dev"

func main() {
	cli.Version = version
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "crio-erofs:", err)
		os.Exit(cli.ExitCode(err))
	}
}
