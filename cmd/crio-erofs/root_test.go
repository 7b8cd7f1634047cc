package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
)

// TestCommandsAreDocumented: the manual pages are made of these texts.
func TestCommandsAreDocumented(t *testing.T) {
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || cmd.Args == nil && cmd.Runnable() {
			t.Errorf("%s: %q, and which arguments?", cmd.CommandPath(), cmd.Short)
		}
		if cmd.Runnable() && cmd.Long == "" && cmd.Name() != "ls" {
			t.Errorf("%s has no long text", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			if !strings.Contains(line, "crio-erofs") && !strings.Contains(line, "mount") {
				t.Errorf("%s: example %q", cmd.CommandPath(), line)
			}
		}
		for _, sub := range cmd.Commands() {
			check(sub)
		}
	}
	check(newCommand())
}

func TestExitCodes(t *testing.T) {
	for want, lines := range map[int][]string{
		cli.ExitUsage: {"build", "nothing", "store nothing", "ls", "version x", "ls --nothing", "store ls x", "option nothing",
			"diff --ignore x a b", "trust x"},
		cli.ExitFailure: {"verify /nonexistent", "ls /nonexistent", "cat /nonexistent x"},
	} {
		for _, line := range lines {
			cmd := newCommand()
			cmd.SetArgs(strings.Fields(line))
			cmd.SetOut(&bytes.Buffer{})
			if err := cmd.Execute(); err == nil || cli.ExitCode(err) != want {
				t.Errorf("%s: %v; want exit code %d", line, err, want)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	var b bytes.Buffer
	cmd := newCommand()
	cmd.SetArgs([]string{"version", "--format", "{{.Version}} {{.FormatVersion}} {{.TarfsFormatVersion}}"})
	cmd.SetOut(&b)
	if err := cmd.Execute(); err != nil || b.String() != "dev 2 1\n" {
		t.Errorf("%v, %q", err, b.String())
	}
}
