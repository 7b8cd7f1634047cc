package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sirupsen/logrus"
)

// The drivers that store the same images in the same file systems.
const (
	driverErofs   = "erofs"
	driverOverlay = "overlay"
	driverDiscard = "discard" // what containers/storage itself costs: its driver throws the layers away
)

var storageDrivers = []string{driverErofs, driverOverlay, driverDiscard}

// storageRow is what a driver took in a file system. Times are of the best turn, in seconds.
type storageRow struct {
	Driver string             `json:"driver"`
	FS     string             `json:"fs"`
	Times  map[string]float64 `json:"times_s"`
	Bytes  map[string]int64   `json:"bytes"` // on the disk, as du counts
}

// storageRows measures the drivers in ext4 and in XFS with reflinks, both in a file below the folder for outputs.
func (b *bench) storageRows(ctx context.Context, inputs []*input) ([]*storageRow, error) {
	var rows []*storageRow
	for _, fs := range []string{"ext4", "xfs"} {
		for _, driver := range storageDrivers {
			logrus.Infof("Measuring storage driver %s on %s", driver, fs)
			row := &storageRow{Driver: driver, FS: fs, Times: map[string]float64{}, Bytes: map[string]int64{}}
			for range min(b.rounds, 2) {
				if err := b.storageTurn(ctx, row, inputs); err != nil {
					return nil, fmt.Errorf("%s on %s: %w", driver, fs, err)
				}
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// storageTurn lets a process do everything once with a driver, in a new file system.
func (b *bench) storageTurn(ctx context.Context, row *storageRow, inputs []*input) (err error) {
	image := filepath.Join(b.work, "storage")
	mkfs := map[string]string{"ext4": "mkfs.ext4 -q -F", "xfs": "mkfs.xfs -q -m reflink=1"}[row.FS]
	if _, err := sh(ctx, `truncate -s 8G "$1" && `+mkfs+` "$1"`, image); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(image)) }()
	dir, unmount, err := mountLoop(ctx, row.FS, image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unmount()) }()
	args := []string{"storage", row.Driver, dir, strconv.FormatBool(!b.quick)}
	for _, in := range inputs[:2] {
		if err := warmFile(in.path); err != nil {
			return err
		}
		args = append(args, in.Name+"="+in.path)
	}
	said, err := output(exec.CommandContext(ctx, b.self, args...))
	if err != nil {
		return err
	}
	var once storageRow
	if err := json.NewDecoder(strings.NewReader(said)).Decode(&once); err != nil {
		return fmt.Errorf("%w: %q", err, said)
	}
	for what, t := range once.Times {
		if best, ok := row.Times[what]; !ok || t < best {
			row.Times[what] = t
		}
	}
	row.Bytes = once.Bytes
	return nil
}

func printStorage(w io.Writer, rows []*storageRow) {
	fmt.Fprint(w, "\nstorage drivers")
	for _, r := range rows {
		fmt.Fprintf(w, "\t%s, %s", r.Driver, r.FS)
	}
	for _, what := range storageColumns {
		fmt.Fprintf(w, "\n  %s", what)
		for _, r := range rows {
			cell := ""
			if s, ok := r.Times[what]; ok {
				cell = seconds(s)
			} else if n, ok := r.Bytes[what]; ok {
				cell = megabytes(n)
			}
			fmt.Fprintf(w, "\t%s", cell)
		}
	}
	fmt.Fprintln(w)
}

// judgeStorage holds what was measured against the goals.
func judgeStorage(rows []*storageRow) []goal {
	find := func(driver, fs string) *storageRow {
		for _, r := range rows {
			if r.Driver == driver && r.FS == fs {
				return r
			}
		}
		return &storageRow{}
	}
	var goals []goal
	for _, fs := range []string{"ext4", "xfs"} {
		own, overlay, floor := find(driverErofs, fs), find(driverOverlay, fs), find(driverDiscard, fs)
		for what := range own.Times {
			ours, theirs := own.Times[what], overlay.Times[what]
			switch {
			case strings.HasPrefix(what, pulls):
				goals = append(goals, atLeast(3, theirs/ours, what+" on "+fs+": faster than overlay"),
					atMost(1.5, ours/floor.Times[what], "×", what+" on "+fs+": the time of a driver that throws it away"))
			case what == removal:
				goals = append(goals, atLeast(20, theirs/ours, what+" on "+fs+": faster than overlay"))
			case strings.HasPrefix(what, starts):
				goals = append(goals, atMost(1, ours/theirs, "×", what+" on "+fs+": overlay's time"))
			}
		}
		for what, n := range own.Bytes {
			goals = append(goals, atMost(1, float64(n)/float64(overlay.Bytes[what]), "×", what+" on "+fs+": overlay's"))
		}
	}
	slices.SortFunc(goals, func(a, b goal) int { return strings.Compare(a.What, b.What) })
	return goals
}
