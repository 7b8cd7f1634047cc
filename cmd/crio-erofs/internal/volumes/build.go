package volumes

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

type buildOptions struct {
	layout   string
	diffID   string
	noVerity bool
	noDiffID bool
	format   output.Format
}

func newBuildCommand() *cobra.Command {
	var o buildOptions
	cmd := &cobra.Command{
		Use:   "build [flags] TAR|- OUT",
		Short: "Make a volume from a layer's tar",
		Long: `build makes a volume from a layer's tar (plain, gzip or zstd; - is standard input) and prints what describes it.
OUT appears when it is complete, or not at all. Equal tars give equal volumes, on any machine.`,
		Example: `  crio-erofs build layer.tar.gz layer.erofs
  skopeo copy docker://IMAGE dir:image; crio-erofs build --format json image/LAYER layer.erofs`,
		Args: cli.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), args[0], args[1])
		},
	}
	cmd.Flags().StringVar(&o.layout, "layout", string(volume.LayoutAligned), "layout of the volume: aligned (Linux 5.4), or tarfs (Linux 6.4): the tar as it is")
	cmd.Flags().BoolVar(&o.noVerity, "no-verity", false, "write neither hash tree nor verity superblock")
	cmd.Flags().StringVar(&o.diffID, "diff-id", "", "the digest (sha256:…) that the uncompressed tar must have")
	cmd.Flags().BoolVar(&o.noDiffID, "no-diff-id", false, "do not compute the tar's digest, which takes as long as the tree")
	cmd.MarkFlagsMutuallyExclusive("diff-id", "no-diff-id")
	output.AddFlag(cmd, &o.format, Report{})
	return cmd
}

func (o *buildOptions) run(ctx context.Context, stdout io.Writer, in, out string) error {
	layout, err := volume.ParseLayout(o.layout)
	if err != nil {
		return cli.Usage(err)
	}
	if err := cli.CheckOutput(out, in); err != nil {
		return err
	}
	layer, closeLayer, err := openLayer(ctx, in)
	if err != nil {
		return err
	}
	defer closeLayer()
	opts := volume.BuildOptions{Layout: layout, NoVerity: o.noVerity, NoDiffID: o.noDiffID}
	end := &tailReader{r: cli.NewReader(ctx, layer)}
	p := output.NewProgress("reading", 0)
	opts.Progress = p.Set
	var d *volume.Description
	err = volume.WriteFile(out, func(f *os.File) (err error) {
		if d, err = volume.Build(f, end, opts); err != nil {
			return err
		}
		return o.check(d, end)
	})
	p.End()
	if err != nil {
		return fmt.Errorf("build %s: %w", out, err)
	}
	r := NewReport(d)
	return o.format.Print(stdout, r, r.Fields())
}

// check makes sure that it was the whole tar: what is cut off between two entries looks like the end.
func (o *buildOptions) check(d *volume.Description, end *tailReader) error {
	switch {
	case o.diffID != "" && d.DiffID != o.diffID:
		return fmt.Errorf("the tar has digest %s, not %s", d.DiffID, o.diffID)
	case o.diffID == "" && !end.zeros():
		return errors.New("the tar does not end with the two blocks of zeros that end an archive: it is truncated; " +
			"if it is not, say which digest it has with --diff-id")
	}
	return nil
}

// openLayer opens a tar and looks through its compression, which it knows by its first bytes.
func openLayer(ctx context.Context, path string) (r io.Reader, closeLayer func(), err error) {
	f, in := os.Stdin, io.Reader(nil)
	if path == "-" {
		in = cli.NewPipeReader(ctx, f)
	} else {
		if f, err = os.Open(path); err != nil {
			return nil, nil, err
		}
		in = f
	}
	buffered := bufio.NewReaderSize(in, 256<<10)
	r, err = decompress(buffered)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, func() {
		if c, ok := r.(io.Closer); ok {
			c.Close()
		}
		f.Close()
	}, nil
}

// decompress looks through a stream's compression, which it knows by the first bytes.
func decompress(r *bufio.Reader) (io.Reader, error) {
	magic, err := r.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(magic) == 0 {
		return nil, errors.New("no tar: there is nothing to read")
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}): // RFC 1952
		return gzip.NewReader(r)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}): // RFC 8878
		zr, err := zstd.NewReader(r)
		if err != nil {
			return nil, err
		}
		return zr.IOReadCloser(), nil
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		return nil, errors.New("compressed with xz, which no layer is: want a plain tar, gzip or zstd; try xz -dc … | crio-erofs build - OUT")
	case bytes.HasPrefix(magic, []byte("BZh")):
		return nil, errors.New("compressed with bzip2, which no layer is: want a plain tar, gzip or zstd; try bzip2 -dc … | crio-erofs build - OUT")
	}
	return r, nil
}

// tailReader keeps the last 1024 bytes of what is read.
type tailReader struct {
	r    io.Reader
	tail []byte
}

func (t *tailReader) Read(p []byte) (int, error) {
	const size = 1024
	n, err := t.r.Read(p)
	t.tail = append(t.tail, p[max(0, n-size):n]...)
	t.tail = t.tail[max(0, len(t.tail)-size):]
	return n, err
}

// zeros says whether these are the blocks of zeros that end an archive.
func (t *tailReader) zeros() bool { return bytes.Equal(t.tail, make([]byte, 1024)) }
