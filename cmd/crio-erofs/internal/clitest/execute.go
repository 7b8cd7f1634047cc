// Package clitest runs commands as a shell would, for tests.
package clitest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
)

// Execute runs one of commands, named by the first of args, and returns what it wrote to standard output.
func Execute(t *testing.T, commands []*cobra.Command, args ...string) (string, error) {
	t.Helper()
	return ExecuteWith(t, commands, "", args...)
}

// ExecuteWith is Execute with something to read on standard input.
func ExecuteWith(t *testing.T, commands []*cobra.Command, stdin string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := cli.NewRoot()
	root.AddCommand(commands...)
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// MustExecute is Execute of what must not fail.
func MustExecute(t *testing.T, commands []*cobra.Command, args ...string) string {
	t.Helper()
	out, err := Execute(t, commands, args...)
	if err != nil {
		t.Fatalf("crio-erofs %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// Refuse is Execute of what must fail, with an error that has want in it.
func Refuse(t *testing.T, commands []*cobra.Command, want string, args ...string) {
	t.Helper()
	if out, err := Execute(t, commands, args...); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("crio-erofs %s: %v, %s; want %q", strings.Join(args, " "), err, out, want)
	}
}
