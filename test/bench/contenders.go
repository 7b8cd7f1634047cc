package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/sirupsen/logrus"
)

// contender makes something of a tar.
type contender struct {
	name string
	// commands make out of the tar in; they run one after another, each made when the one before has ended.
	commands []func(in, out string) ([]string, error)
}

// Names of contenders that goals are about.
const (
	nameBuild    = "crio-erofs build --no-diff-id" // a volume with its tree, as the peers make it
	nameMkfs     = "mkfs.erofs + veritysetup"
	nameTar2ext4 = "tar2ext4 + verity"
	nameCat      = "cat"
)

func (b *bench) contenders() []contender {
	return []contender{
		{nameCat, command("sh", "-c", `exec cat "$0" >"$1"`, "{in}", "{out}")},
		{nameBuild, command(b.own, "build", "--no-diff-id", "{in}", "{out}")},
		{"crio-erofs build", command(b.own, "build", "{in}", "{out}")},
		{"crio-erofs build --layout tarfs", command(b.own, "build", "--layout", "tarfs", "{in}", "{out}")},
		{nameMkfs, append(command(append(b.mkfs, "--tar=f", "--sort=none", "{out}", "{in}")...), veritysetup)},
		{"go-erofs + go-dmverity", command(b.self, "peer", "go-erofs", "{in}", "{out}")},
		{nameTar2ext4, command(b.self, "peer", "tar2ext4", "{in}", "{out}")},
		{"overlay ApplyDiff", command(b.self, "peer", "overlay", "{in}", "{out}")},
	}
}

// command returns the only command of a contender.
func command(argv ...string) []func(in, out string) ([]string, error) {
	return []func(in, out string) ([]string, error){func(in, out string) ([]string, error) {
		filled := make([]string, len(argv))
		for i, arg := range argv {
			switch arg {
			case "{in}":
				arg = in
			case "{out}":
				arg = out
			}
			filled[i] = arg
		}
		return filled, nil
	}}
}

// veritysetup appends a hash tree with the parameters of our own volumes.
func veritysetup(_, out string) ([]string, error) {
	fi, err := os.Stat(out)
	if err != nil {
		return nil, err
	}
	return []string{"veritysetup", "format", "--salt=-", "--hash-offset", strconv.FormatInt(fi.Size(), 10), out, out}, nil
}

// once has a contender take its turn and returns the size of what it made.
func (b *bench) once(ctx context.Context, c contender, in *input) (t turn, size int64, err error) {
	out := filepath.Join(b.work, "out")
	defer os.RemoveAll(out)
	if err := warmFile(in.path); err != nil {
		return t, 0, err
	}
	if err := warmMemory(b.work, in.Bytes+256<<20); err != nil {
		return t, 0, err
	}
	for _, command := range c.commands {
		argv, err := command(in.path, out)
		if err != nil {
			return t, 0, err
		}
		part, err := run(ctx, argv)
		if err != nil {
			return t, 0, err
		}
		all := t.Wall + part.Wall
		t = turn{Wall: all, CPU: t.CPU + part.CPU, RSS: max(t.RSS, part.RSS),
			Others: (t.Others*t.Wall + part.Others*part.Wall) / all}
	}
	size, err = diskSize(out)
	return t, size, err
}

// diskSize returns a file's size, or the space that the files in a folder take.
func diskSize(path string) (size int64, err error) {
	fi, err := os.Stat(path)
	if err != nil || !fi.IsDir() {
		if err != nil {
			return 0, err
		}
		return fi.Size(), nil
	}
	err = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			size += st.Blocks * 512
		}
		return nil
	})
	return size, err
}

// row is what one contender took with one input.
type row struct {
	Name   string  `json:"name"`
	Wall   float64 `json:"wall_s"` // of the best turn
	Median float64 `json:"median_wall_s"`
	CPU    float64 `json:"cpu_s"`          // of the best turn
	RSS    int64   `json:"peak_rss_bytes"` // of the worst turn
	Size   int64   `json:"output_bytes"`
	Ratio  float64 `json:"times_as_long_as_build"` // of Wall
	Quiet  int     `json:"undisturbed_turns"`
	Turns  turns   `json:"turns"`
}

// table is what all contenders took with one input.
type table struct {
	Input *input `json:"input"`
	Rows  []row  `json:"rows"`
}

func (t *table) row(name string) *row {
	for i := range t.Rows {
		if t.Rows[i].Name == name {
			return &t.Rows[i]
		}
	}
	return nil
}

// conversions has all contenders convert an input.
func (b *bench) conversions(ctx context.Context, in *input) (*table, error) {
	contenders := b.contenders()
	logrus.Infof("Measuring %d contenders with %s of %s", len(contenders), in.Title, megabytes(in.Bytes))
	sizes := make([]int64, len(contenders))
	all, err := b.alternate(len(contenders), func(i int) (t turn, err error) {
		t, sizes[i], err = b.once(ctx, contenders[i], in)
		if err != nil {
			return t, fmt.Errorf("%s with %s: %w", contenders[i].name, in.Title, err)
		}
		return t, nil
	})
	if err != nil {
		return nil, err
	}
	t := &table{Input: in}
	for i, ts := range all {
		best := ts.best()
		t.Rows = append(t.Rows, row{Name: contenders[i].name, Wall: best.Wall, Median: ts.median(), CPU: best.CPU,
			RSS: ts.peakRSS(), Size: sizes[i], Quiet: len(ts.quiet()), Turns: ts})
	}
	build := t.row(nameBuild).Wall
	for i := range t.Rows {
		t.Rows[i].Ratio = t.Rows[i].Wall / build
	}
	return t, nil
}
