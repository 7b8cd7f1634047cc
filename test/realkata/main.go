// Command realkata runs this repository's driver, hook and shim with an installed Kata Containers, as its releases are
// laid out, and says what each of its runtimes makes of every mode: "realkata --kata /opt/kata". Where the machine
// cannot run Kata's VMs, it boots a VM that can.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/realkata/install"
	"github.com/crio-erofs/crio-erofs/test/realkata/matrix"
	"github.com/crio-erofs/crio-erofs/test/realkata/outer"
)

// noKata is what is said, with exit status 0, where there is nothing to run.
const noKata = "no Kata was given: nothing was run. KATA=/opt/kata names an installation (docs/testing-real.md)"

// options are the command's flags.
type options struct {
	kata, format  string
	runtime       string
	only          []string
	keep          string
	memory, guest int
	inside        bool
	settings      string
}

func main() {
	logrus.SetOutput(os.Stderr)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:          "realkata",
		Short:        "Run every mode on an installed Kata, and say whether its guest enforced dm-verity",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.kata, "kata", "", "folder of the installation, such as /opt/kata")
	flags.StringVar(&o.runtime, "runtime", "", "run this runtime only: rust or golang")
	flags.StringVar(&o.format, "format", "table", "table or json")
	flags.StringArrayVar(&o.only, "only", nil, "run the cases whose names begin so; may be repeated")
	flags.StringVar(&o.keep, "keep", "", "folder to keep CRI-O's and Kata's logs in")
	flags.IntVar(&o.memory, "outer-memory", 6144, "MiB of memory of the outer VM, where one is needed")
	flags.IntVar(&o.guest, "guest-memory", 512, "MiB of memory of each of Kata's VMs")
	flags.StringVar(&o.settings, "settings", "", "more of Kata's configuration, as TOML")
	flags.BoolVar(&o.inside, "inside", false, "do not boot a VM, whatever this machine lacks")
	return cmd
}

func (o *options) run(ctx context.Context, stdout io.Writer) error {
	if o.kata == "" {
		_, err := fmt.Fprintln(stdout, noKata)
		return err
	}
	runtimes, err := install.Find(ctx, o.kata)
	if err != nil {
		return err
	}
	runtimes = slices.DeleteFunc(runtimes, func(r install.Runtime) bool {
		return o.runtime != "" && !strings.EqualFold(o.runtime, string(r.Kind))
	})
	if len(runtimes) == 0 {
		return fmt.Errorf("%s has no runtime %q", o.kata, o.runtime)
	}
	for _, r := range runtimes {
		logrus.Infof("%s: %s", r.Shim, r.Line)
	}
	var results []matrix.Result
	if lack := outer.CheckKata(); lack != nil && !o.inside {
		logrus.Infof("this machine cannot run Kata's VMs; booting one that can: %s",
			strings.ReplaceAll(lack.Error(), "\n", "; "))
		results, err = o.runOutside(ctx)
	} else {
		results, err = o.runHere(ctx, runtimes)
	}
	return errors.Join(print(stdout, o.format, results), err, verdict(results))
}

// runHere runs the cases on this machine.
func (o *options) runHere(ctx context.Context, runtimes []install.Runtime) ([]matrix.Result, error) {
	var all []matrix.Result
	for i, r := range runtimes {
		dir, err := privateDir(o.keep, fmt.Sprintf("rk%d", i))
		if err != nil {
			return all, err
		}
		if o.keep == "" {
			defer os.RemoveAll(dir)
		}
		results, err := matrix.Run(ctx, matrix.Options{
			Runtime: r, Dir: dir, MemoryMiB: o.guest, Settings: o.settings, Keep: o.keep != "", Only: o.only,
		})
		all = append(all, results...)
		if err != nil {
			return all, fmt.Errorf("%s %s: %w", r.Kind, r.Version, err)
		}
	}
	return all, nil
}

// privateDir makes a folder: of a short name, as sockets are below it, and where the outer VM has a real file system.
func privateDir(keep, name string) (string, error) {
	if keep != "" {
		dir := filepath.Join(keep, name)
		return dir, os.MkdirAll(dir, 0o755)
	}
	parent := ""
	if _, err := os.Stat(outer.ScratchDir); err == nil {
		parent = outer.ScratchDir
	}
	return os.MkdirTemp(parent, name)
}

// runOutside runs this program in the outer VM.
func (o *options) runOutside(ctx context.Context) ([]matrix.Result, error) {
	if err := matrix.Prepare(ctx); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rk")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	root, err := env.Root()
	if err != nil {
		return nil, err
	}
	cache, err := env.Cache()
	if err != nil {
		return nil, err
	}
	vm, err := outer.Boot(ctx, outer.Config{
		Dir: dir, Cache: filepath.Join(cache, "guest"), Source: root, MemoryMiB: o.memory, DiskGiB: 8,
	})
	if err != nil {
		return nil, err
	}
	defer vm.Close()
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{program, "--inside", "--kata", o.kata, "--format", "json", "--settings", o.settings,
		"--guest-memory", fmt.Sprint(o.guest), "--runtime", o.runtime}
	for _, only := range o.only {
		args = append(args, "--only", only)
	}
	const logs = outer.ScratchDir + "/logs"
	if o.keep != "" {
		args = append(args, "--keep", logs)
	}
	var out strings.Builder
	code, err := vm.Run(ctx, outer.Request{Args: args, Env: os.Environ(), Dir: root}, &out, os.Stderr)
	if err != nil {
		return nil, err
	}
	if o.keep != "" {
		if err := copyLogs(ctx, vm, logs, o.keep); err != nil {
			return nil, err
		}
	}
	var results []matrix.Result
	if err := json.Unmarshal([]byte(out.String()), &results); err != nil {
		return nil, fmt.Errorf("the run in the outer VM ended with %d and without results: %w", code, err)
	}
	return results, nil
}

// copyLogs copies the logs of a folder in the VM, one for each runtime, to a folder of this machine.
func copyLogs(ctx context.Context, vm *outer.VM, from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	var archive bytes.Buffer
	pack := outer.Request{Args: []string{"sh", "-c", "tar -c */*.log"}, Env: os.Environ(), Dir: from}
	if _, err := vm.Run(ctx, pack, &archive, os.Stderr); err != nil {
		return fmt.Errorf("logs of the outer VM: %w", err)
	}
	unpack := exec.CommandContext(ctx, "tar", "-x", "-C", to)
	unpack.Stdin = &archive
	if out, err := unpack.CombinedOutput(); err != nil {
		return fmt.Errorf("logs of the outer VM: %w: %s", err, out)
	}
	return nil
}

func print(w io.Writer, format string, results []matrix.Result) error {
	if format == "json" {
		return json.NewEncoder(w).Encode(results)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RUNTIME\tCASE\tVERITY\tSECONDS\tRESULT")
	for _, r := range results {
		result := "ok"
		switch {
		case r.Skipped != "":
			result = "skipped: " + r.Skipped
		case r.Error != "":
			result = "FAILED: " + strings.ReplaceAll(r.Error, "\n", "; ")
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\n", r.Runtime, r.Case, r.Verity, r.Seconds, result)
	}
	return table.Flush()
}

// verdict is an error if a case failed, or if none was run.
func verdict(results []matrix.Result) error {
	failed := 0
	for _, r := range results {
		if r.Error != "" {
			failed++
		}
	}
	if failed > 0 || len(results) == 0 {
		return fmt.Errorf("%d of %d cases failed", failed, len(results))
	}
	return nil
}
