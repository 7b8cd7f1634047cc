// Command crio-erofs makes, checks and shows volumes: EROFS images with a dm-verity tree.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
)

// version is set by the Makefile.
var version = "dev"

func main() {
	cli.Version = version
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	err := newCommand().ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "crio-erofs:", message(ctx, err))
		os.Exit(cli.ExitCode(err))
	}
}

// message is what people read of an error: the Go word for an interruption is not theirs.
func message(ctx context.Context, err error) string {
	if ctx.Err() == nil {
		return err.Error()
	}
	return strings.ReplaceAll(err.Error(), context.Canceled.Error(), "interrupted")
}
