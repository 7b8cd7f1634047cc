package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

type buildOptions struct {
	layout   string
	noVerity bool
	format   outputFormat
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
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), args[0], args[1])
		},
	}
	cmd.Flags().StringVar(&o.layout, "layout", string(volume.LayoutAligned), "layout of the volume: aligned (Linux 5.4), or tarfs (Linux 6.4): the tar as it is")
	cmd.Flags().BoolVar(&o.noVerity, "no-verity", false, "write neither hash tree nor verity superblock")
	addFormatFlag(cmd.Flags(), &o.format)
	return cmd
}

func (o *buildOptions) run(ctx context.Context, stdout io.Writer, in, out string) error {
	layout, err := volume.ParseLayout(o.layout)
	if err != nil {
		return usageError{err}
	}
	layer, closeLayer, err := openLayer(in)
	if err != nil {
		return err
	}
	defer closeLayer()
	p := newProgress("reading", 0)
	d, err := volume.Create(out, contextReader{ctx, layer},
		volume.BuildOptions{Layout: layout, NoVerity: o.noVerity, Progress: p.set})
	p.end()
	if err != nil {
		return fmt.Errorf("build %s: %w", out, err)
	}
	r := newReport(d)
	if o.format == formatJSON {
		return printJSON(stdout, r)
	}
	return printFields(stdout, r.fields())
}

// openLayer opens a tar and looks through its compression, which it knows by its first bytes.
func openLayer(path string) (r io.Reader, closeLayer func(), err error) {
	f := os.Stdin
	if path != "-" {
		if f, err = os.Open(path); err != nil {
			return nil, nil, err
		}
	}
	buffered := bufio.NewReaderSize(f, 1<<20)
	magic, _ := buffered.Peek(4) // what is shorter is no compressed stream; the tar reader says what it is
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}): // RFC 1952
		gz, err := gzip.NewReader(buffered)
		if err != nil {
			f.Close()
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		return gz, func() { gz.Close(); f.Close() }, nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}): // RFC 8878
		zr, err := zstd.NewReader(buffered)
		if err != nil {
			f.Close()
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		return zr, func() { zr.Close(); f.Close() }, nil
	}
	return buffered, func() { f.Close() }, nil
}

// contextReader makes a long read end when the program is told to stop.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, fmt.Errorf("stopped: %w", err)
	}
	return c.r.Read(p)
}
