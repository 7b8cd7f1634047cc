package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containers/storage/pkg/reexec"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/test/corpus"
	"github.com/crio-erofs/crio-erofs/test/env"
)

func main() {
	if reexec.Init() { // overlay's ApplyDiff unpacks in a process of its own
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	quick    bool
	rounds   int
	patience time.Duration
	dir      string
	format   string
	storage  bool
}

func newCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:           "bench",
		Short:         "Measure crio-erofs against its peers",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cmd.Flags().BoolVar(&o.quick, "quick", false, "one round, and only the Debian and the npm tree")
	cmd.Flags().IntVar(&o.rounds, "rounds", 3, "turns of each contender with each input")
	cmd.Flags().DurationVar(&o.patience, "patience", 30*time.Second,
		"for how long, with each input, turns may be repeated that other processes disturbed")
	cmd.Flags().StringVar(&o.dir, "dir", "",
		"where outputs are written (default /dev/shm, so that nobody waits for a disk)")
	cmd.Flags().StringVar(&o.format, "format", "text", "what to print: text or json")
	cmd.Flags().BoolVar(&o.storage, "storage", false, "measure the storage drivers only")
	cmd.AddCommand(newPeerCommand(), newStorageCommand(), newPlotCommand(), newShowCommand())
	return cmd
}

func (o *options) check() error {
	switch {
	case o.format != "text" && o.format != "json":
		return fmt.Errorf("format %q is not known; must be one of (text|json)", o.format)
	case o.rounds < 1:
		return fmt.Errorf("%d rounds; want at least 1", o.rounds)
	case os.Geteuid() != 0:
		return errors.New("overlay and loop mounts need root: run it as root")
	}
	if o.quick {
		o.rounds, o.patience = 1, 0
	}
	if o.dir == "" {
		o.dir = "/dev/shm"
	}
	return needSpace(o.dir)
}

// needSpace refuses a folder that the largest input does not fit in, twice.
func needSpace(dir string) error {
	const need = 6 << 30
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < need {
		return fmt.Errorf("%s has %s free, outputs need %s: give another folder with --dir", dir,
			megabytes(int64(free)), megabytes(need))
	}
	return nil
}

func (o *options) run(ctx context.Context) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	work, err := os.MkdirTemp(o.dir, "crio-erofs-bench.")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	b, err := newBench(ctx, work, *o)
	if err != nil {
		return err
	}
	r, err := b.measure(ctx)
	if err != nil {
		return err
	}
	if o.format == "json" {
		return r.printJSON(os.Stdout)
	}
	return r.printText(os.Stdout)
}

// bench has what all measurements need.
type bench struct {
	options
	cache string
	work  string // for outputs; removed at the end
	own   string // crio-erofs, freshly built
	self  string // this program, which is the peers that are libraries
	mkfs  []string
}

func newBench(ctx context.Context, work string, o options) (*bench, error) {
	root, err := env.Root()
	if err != nil {
		return nil, err
	}
	cache, err := env.Cache()
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, cache: filepath.Join(cache, "bench"), work: work, own: filepath.Join(work, "crio-erofs")}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return nil, err
	}
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", b.own,
		"./cmd/crio-erofs")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if _, err := output(build); err != nil {
		return nil, err
	}
	// Debian bookworm's mkfs.erofs, 1.5, cannot read tars.
	mkfs, err := corpus.Trixie(ctx, cache, "mkfs.erofs")
	b.mkfs = slices.Clip(append(mkfs, "--quiet")) // others append to it
	return b, err
}

// measure makes the inputs that are not there yet, and then measures everything.
func (b *bench) measure(ctx context.Context) (*result, error) {
	inputs, err := b.inputs(ctx)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	r := &result{Machine: describeMachine()}
	if r.Storage, err = b.storageRows(ctx, inputs); err != nil {
		return nil, err
	}
	if b.storage {
		r.Goals, r.Seconds = judgeStorage(r.Storage), time.Since(start).Seconds()
		return r, nil
	}
	for _, in := range inputs {
		t, err := b.conversions(ctx, in)
		if err != nil {
			return nil, err
		}
		r.Conversions = append(r.Conversions, t)
	}
	if r.Size, err = b.sizes(ctx, inputs[0]); err != nil {
		return nil, err
	}
	if r.Listing, err = b.listings(ctx, inputs[0]); err != nil {
		return nil, err
	}
	if !b.quick {
		if r.Memory, err = b.memory(ctx); err != nil {
			return nil, err
		}
		if r.Merge, err = b.merges(ctx); err != nil {
			return nil, err
		}
	}
	r.Goals = r.judge()
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// output runs a command and returns what it writes to standard output. What it writes otherwise becomes the error.
func output(cmd *exec.Cmd) (string, error) {
	logrus.Debugf("Running %s", strings.Join(cmd.Args, " "))
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, lastBytes(stderr.String(), 2000))
	}
	return stdout.String(), nil
}

func lastBytes(s string, n int) string { return strings.TrimSpace(s[max(0, len(s)-n):]) }

// sh runs a script of the shell with arguments $1, $2, ….
func sh(ctx context.Context, script string, args ...string) (string, error) {
	return output(exec.CommandContext(ctx, "sh", append([]string{"-euc", script, "sh"}, args...)...))
}
