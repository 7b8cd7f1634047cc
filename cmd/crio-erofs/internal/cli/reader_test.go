package cli_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
)

// TestPipeReader: all is read, and an interruption ends a read that waits for a writer who never writes.
func TestPipeReader(t *testing.T) {
	want := strings.Repeat("data", 1<<18)
	if got, err := io.ReadAll(cli.NewPipeReader(t.Context(), strings.NewReader(want))); err != nil || string(got) != want {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	silent, writer := io.Pipe()
	defer writer.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r := cli.NewPipeReader(ctx, silent)
	cancel()
	if _, err := io.Copy(&bytes.Buffer{}, r); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
