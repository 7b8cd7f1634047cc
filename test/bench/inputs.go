package main

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/test/env"
)

// input is a tar that contenders convert.
type input struct {
	Name    string `json:"name"` // short
	Title   string `json:"title"`
	Entries int    `json:"entries"`
	Bytes   int64  `json:"bytes"` // of the tar
	path    string

	dataInBlocks int64 // sizes of the files, filled to blocks of 4096 bytes
}

const (
	debian = "debian"
	npm    = "npm"
	large  = "large"
)

// inputs returns the tars that are converted, the Debian tree first, making those that the cache does not have.
func (b *bench) inputs(ctx context.Context) ([]*input, error) {
	wanted := []struct {
		name, title string
		make        func(ctx context.Context, work string, out io.Writer) error
	}{
		{debian, "a Debian tree", writeDebian},
		{npm, "an npm tree", writeNPM},
		{large, "one file that does not compress", writeLarge},
	}
	if b.quick || b.storage {
		wanted = wanted[:2]
	}
	var inputs []*input
	for _, w := range wanted {
		in, err := b.input(ctx, w.name, w.title, w.make)
		if err != nil {
			return nil, fmt.Errorf("input %s: %w", w.name, err)
		}
		inputs = append(inputs, in)
	}
	return inputs, nil
}

// input returns the tar of this name in the cache. If it is not there, write makes it; work is a folder for that.
func (b *bench) input(ctx context.Context, name, title string,
	write func(ctx context.Context, work string, out io.Writer) error) (in *input, err error) {
	path := filepath.Join(b.cache, name+"-1.tar") // another content needs another number
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		logrus.Infof("Making %s for %s; this is done once", title, path)
		if err := makeFile(ctx, path, write); err != nil {
			return nil, err
		}
	}
	in = &input{Name: name, Title: title, path: path}
	return in, in.count()
}

func makeFile(ctx context.Context, path string, write func(context.Context, string, io.Writer) error) (err error) {
	work, err := os.MkdirTemp(filepath.Dir(path), "work.")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	f, err := os.Create(filepath.Join(work, "out"))
	if err != nil {
		return err
	}
	if err := errors.Join(write(ctx, work, f), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// count counts the tar's entries and bytes.
func (in *input) count() error {
	f, err := os.Open(in.path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	in.Bytes = fi.Size()
	for tr := tar.NewReader(f); ; in.Entries++ {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w: delete it", in.path, err)
		}
		const block = 4096
		in.dataInBlocks += (hdr.Size + block - 1) &^ (block - 1)
	}
}

// packTree writes a tar of a folder as image builders do: names sorted, times in whole seconds.
func packTree(ctx context.Context, dir string, out io.Writer) error {
	const pack = `tar --create --file="$1.tar" --directory="$1" --format=gnu --sort=name --numeric-owner .`
	if _, err := sh(ctx, pack, dir); err != nil {
		return err
	}
	f, err := os.Open(dir + ".tar")
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(out, f)
	return err
}

// writeDebian makes a Debian with a compiler and Python, the size of a usual base image for development.
func writeDebian(ctx context.Context, work string, out io.Writer) error {
	mirror, _, err := env.DebianSource(ctx)
	if err != nil {
		return err
	}
	tree := filepath.Join(work, "debian")
	_, err = sh(ctx, `debootstrap --variant=minbase --include=g++,python3,ca-certificates bookworm "$1" "$2"
		rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/dev/*`, tree, mirror)
	if err != nil {
		return err
	}
	return packTree(ctx, tree, out)
}

// writeNPM makes a tree of more than 40,000 small files.
func writeNPM(ctx context.Context, work string, out io.Writer) error {
	tree := filepath.Join(work, "npm")
	_, err := sh(ctx, `mkdir "$1" && cd "$1" && npm install --no-audit --no-fund --ignore-scripts --legacy-peer-deps \
		--cache "$1.cache" date-fns@2.30.0 @mui/icons-material@5.16.7 lodash-es@4.17.21 rxjs@7.8.1 >&2`, tree)
	if err != nil {
		return err
	}
	return packTree(ctx, tree, out)
}

// writeLarge makes one file of 2 GB.
func writeLarge(_ context.Context, _ string, out io.Writer) error {
	const size = 2_000_000_000
	return writeTar(out, 1, func(int) (string, int64) { return "large.bin", size })
}

// writeMany makes 200,000 small files.
func writeMany(_ context.Context, _ string, out io.Writer) error {
	return writeTar(out, 200_000, func(i int) (string, int64) {
		return "srv/data/" + strconv.Itoa(i/1000) + "/record-" + strconv.Itoa(i) + ".json", int64(i % 500)
	})
}

// writeTar writes a tar of n files of pseudo-random content.
func writeTar(out io.Writer, n int, file func(i int) (name string, size int64)) error {
	buffered := bufio.NewWriterSize(out, 1<<20)
	w := tar.NewWriter(buffered)
	rng := rand.NewChaCha8([32]byte{})
	for i := range n {
		name, size := file(i)
		hdr := tar.Header{Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(1_700_000_000+int64(i%1000), 0)}
		if err := w.WriteHeader(&hdr); err != nil {
			return err
		}
		if _, err := io.CopyN(w, rng, size); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), buffered.Flush())
}
