package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"
)

// mergeResult tells what merging ten layers takes.
type mergeResult struct {
	Layers []mergeRow `json:"layers"`
}

type mergeRow struct {
	Files  int   `json:"files"`
	Bytes  int64 `json:"bytes"`        // of file data in all layers
	Shared int64 `json:"shared_bytes"` // with the layers, in the merged volume
	Copied int64 `json:"copied_bytes"`
	Turn   turn  `json:"turn"` // the best
	Turns  turns `json:"turns"`
}

const mergedLayers = 10

// merges merges layers on an XFS with reflinks: a gigabyte, as many files with fewer bytes, and as many bytes in fewer
// files.
func (b *bench) merges(ctx context.Context) (_ *mergeResult, err error) {
	logrus.Infof("Measuring merges of %d layers", mergedLayers)
	image := filepath.Join(b.work, "xfs")
	if _, err := sh(ctx, `truncate -s 6G "$1" && mkfs.xfs -q -m reflink=1 "$1"`, image); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.Remove(image)) }()
	dir, unmount, err := mountLoop(ctx, "xfs", image)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unmount()) }()
	r := &mergeResult{Layers: []mergeRow{
		{Files: 12_500, Bytes: 1_000_000_000},
		{Files: 12_500, Bytes: 250_000_000},
		{Files: 3_125, Bytes: 1_000_000_000},
	}}
	for i := range r.Layers {
		if err := b.merge(ctx, filepath.Join(dir, fmt.Sprint(i)), &r.Layers[i]); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// merge makes the layers that row asks for in dir and fills in what merging them takes.
func (b *bench) merge(ctx context.Context, dir string, row *mergeRow) (err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var layers []string
	for i := range mergedLayers {
		path := filepath.Join(dir, fmt.Sprintf("layer%d.erofs", i))
		if err := b.buildLayer(ctx, path, i, row); err != nil {
			return err
		}
		layers = append(layers, path)
	}
	out := filepath.Join(dir, "merged")
	argv := append([]string{b.own, "merge", "--format", "json", out}, layers...)
	said, err := output(exec.CommandContext(ctx, argv[0], argv[1:]...))
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(said), row); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	all, err := b.alternate(1, func(int) (turn, error) {
		if err := os.Remove(out); err != nil {
			return turn{}, err
		}
		return run(ctx, argv)
	})
	if err != nil {
		return err
	}
	row.Turns, row.Turn = all[0], all[0].best()
	return nil
}

// buildLayer makes the i-th layer. One of ten of its files replaces one of the layer below it.
func (b *bench) buildLayer(ctx context.Context, path string, i int, row *mergeRow) (err error) {
	files := row.Files / mergedLayers
	size := row.Bytes / int64(row.Files)
	build := exec.CommandContext(ctx, b.own, "build", "-", path)
	stdin, err := build.StdinPipe()
	if err != nil {
		return err
	}
	written := make(chan error, 1)
	go func() {
		written <- errors.Join(writeTar(stdin, files, func(j int) (string, int64) {
			layer := i
			if j%10 == 0 {
				layer = max(0, i-1)
			}
			return fmt.Sprintf("usr/lib/layer%d/%d/file%d", layer, j/100, j), size
		}), stdin.Close())
	}()
	_, err = output(build)
	return errors.Join(err, <-written)
}
