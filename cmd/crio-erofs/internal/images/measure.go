package images

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/measure/source"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

type measureOptions struct {
	imageOptions
	format measureFormat
}

// imageOptions say which images to measure, and how.
type imageOptions struct {
	registry registryOptions
	platform string
	all      bool
	layout   string
	jobs     int
	tmpDir   string
}

func newMeasureCommand() *cobra.Command {
	var o measureOptions
	cmd := &cobra.Command{
		Use:   "measure [flags] TRANSPORT:IMAGE...",
		Short: "Compute the root hashes of an image's volumes from the image alone",
		Long: `measure reads an image's layers and prints which volumes a node makes of them: for every layer and for the whole image the root
hash and the volume's geometry. Nothing of the image is kept. The layers' digests and diffIDs are checked against the image's
manifest and configuration. No root, EROFS, CRI-O or Kata is needed.

A root hash that a host tells a guest proves nothing: who wants to know that a VM runs this image must bring these root hashes
there on another way (docs/trust.md).

TRANSPORT is docker:// (a registry), oci:, oci-archive:, docker-archive:, dir: or, on Linux, containers-storage:.

FORMAT is one of
` + measureFormatsHelp(),
		Example: `  crio-erofs measure docker://quay.io/fedora/fedora:42
  crio-erofs measure --platform linux/arm64 --format json oci:layout:tag`,
		Args: atLeastOneImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), args)
		},
	}
	o.addFlags(cmd)
	o.format = measureFormats[0].name
	cmd.Flags().Var(&o.format, "format", "what to print, see above")
	return cmd
}

var atLeastOneImage = cli.MinimumArgs(1, "at least one image")

func (o *imageOptions) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	o.registry.addFlags(flags)
	flags.StringVar(&o.platform, "platform", "", "OS/ARCH[/VARIANT] of the image to take from a list (default: linux on this processor)")
	flags.BoolVar(&o.all, "all", false, "take all images of a list")
	flags.StringVar(&o.layout, "layout", string(volume.LayoutAligned), "the nodes' erofs.layout: aligned or tarfs")
	flags.IntVar(&o.jobs, "jobs", 0, "how many layers to read at the same time (default: processors, at most 4)")
	flags.StringVar(&o.tmpDir, "tmpdir", "", "where hashes of large layers are kept meanwhile, in files without a name")
	cmd.MarkFlagsMutuallyExclusive("platform", "all")
}

func (o *measureOptions) run(ctx context.Context, stdout io.Writer, names []string) error {
	var all []*measure.Measurement
	for _, name := range names {
		measurements, err := o.measure(ctx, name)
		if err != nil {
			return err
		}
		all = append(all, measurements...)
	}
	return o.format.print(stdout, all)
}

// measure measures the images that a name is of.
func (o *imageOptions) measure(ctx context.Context, name string) (_ []*measure.Measurement, err error) {
	layout, err := volume.ParseLayout(o.layout)
	if err != nil {
		return nil, cli.Usage(err)
	}
	if o.jobs < 0 {
		return nil, cli.Usage(fmt.Errorf("--jobs %d is less than one", o.jobs))
	}
	if _, err := source.ParseName(name); err != nil {
		return nil, cli.Usage(err)
	}
	sys, err := o.registry.system()
	if err != nil {
		return nil, err
	}
	p := output.NewProgress("measuring", 0)
	defer p.End()
	src, err := source.Open(ctx, name, source.Options{System: sys, Platform: o.platform, All: o.all, Progress: p.Add})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	p.SetTotal(src.Size)
	var all []*measure.Measurement
	for _, img := range src.Images {
		m, err := measure.Measure(ctx, img, measure.Options{Layout: layout, Jobs: o.jobs, TempDir: o.tmpDir})
		if err != nil {
			return nil, fmt.Errorf("image %s (%s): %w", name, img.Platform, err)
		}
		all = append(all, m)
	}
	return all, nil
}
