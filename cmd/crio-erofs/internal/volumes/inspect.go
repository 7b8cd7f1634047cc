package volumes

import (
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

type inspectOptions struct {
	files  bool
	format output.Format
}

func newInspectCommand() *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect [flags] VOLUME",
		Short: "Show what is in a volume",
		Long: `inspect shows a volume's superblocks and counts what is in it, or lists it with --files. It does not check the data; verify
does. The root hash shown is the one that the tree's top block has.`,
		Args: cli.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.OutOrStdout(), args[0])
		},
	}
	cmd.Flags().BoolVar(&o.files, "files", false, "list every file, too")
	output.AddFlag(cmd, &o.format, inspection{})
	return cmd
}

// inspection is what inspect prints as JSON.
type inspection struct {
	report
	TreeOffset uint64      `json:"tree_offset,omitempty"`
	ImageSize  int64       `json:"image_size"`
	BlockSize  uint32      `json:"block_size"`
	UUID       string      `json:"uuid"`
	BuildTime  time.Time   `json:"epoch"`
	Inodes     uint64      `json:"inodes"`
	Count      typeCount   `json:"count"`
	Files      []fileEntry `json:"files,omitempty"`
}

func (o *inspectOptions) run(stdout io.Writer, path string) error {
	f, size, err := cli.OpenVolume(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := volume.Inspect(f, size)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	files, count, err := listFiles(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	in := newInspection(info, count)
	if o.files {
		in.Files = files
	}
	blocks := []output.Block{in.fields()}
	if o.files {
		blocks = append(blocks, filesTable(files))
	}
	return o.format.Print(stdout, in, blocks...)
}

func newInspection(info *volume.Info, count typeCount) inspection {
	d := volume.Description{Layout: info.Layout, FormatVersion: info.FormatVersion, Size: info.Size, Verity: info.Verity}
	in := inspection{
		report:    newReport(&d),
		ImageSize: info.Image.Size(),
		BlockSize: info.Image.BlockSize,
		UUID:      hex.EncodeToString(info.Image.UUID[:]),
		BuildTime: time.Unix(info.Image.BuildTime, 0).UTC(),
		Inodes:    info.Image.Inodes,
		Count:     count,
	}
	if info.Verity != nil {
		in.TreeOffset = info.Verity.TreeOffset
	}
	return in
}

func (in *inspection) fields() output.Fields {
	fields := in.report.fields()
	fields.AddIf("tree_offset", in.TreeOffset)
	c := in.Count
	return append(fields, output.Pairs(
		"image_size", output.Bytes(in.ImageSize),
		"block_size", in.BlockSize,
		"uuid", in.UUID,
		"epoch", in.BuildTime.Format(time.RFC3339),
		"inodes", in.Inodes,
		"content", fmt.Sprintf("%d files of %s bytes, %d directories, %d symbolic links, %d devices, %d fifos, "+
			"%d whiteouts, %d opaque directories", c.Files, output.Bytes(c.FileBytes), c.Directories, c.Symlinks, c.Devices,
			c.FIFOs, c.Whiteouts, c.Opaque))...)
}
