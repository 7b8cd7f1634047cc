package inspect

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/files"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/tree"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/volumes"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// volumeInspection is what inspect prints of a volume as JSON.
type volumeInspection struct {
	volumes.Report
	TreeOffset uint64         `json:"tree_offset,omitempty"`
	ImageSize  int64          `json:"image_size"`
	BlockSize  uint32         `json:"block_size"`
	UUID       string         `json:"uuid"`
	BuildTime  time.Time      `json:"epoch"`
	Inodes     uint64         `json:"inodes"`
	Count      typeCount      `json:"count"`
	Files      []*files.Entry `json:"files,omitempty"`
}

func (o *inspectOptions) volume(ctx context.Context, stdout io.Writer, path string) error {
	f, size, err := cli.OpenVolume(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := volume.Inspect(f, size)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	s, err := tree.Open(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	entries, count, err := listFiles(ctx, s)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	in := newVolumeInspection(info, count)
	blocks := []output.Block{in.fields()}
	if o.files {
		in.Files = entries
		blocks = append(blocks, files.Long(entries, false))
	}
	return o.format.Print(stdout, in, blocks...)
}

func newVolumeInspection(info *volume.Info, count typeCount) *volumeInspection {
	d := volume.Description{Layout: info.Layout, FormatVersion: info.FormatVersion, Size: info.Size, Verity: info.Verity}
	in := &volumeInspection{
		Report:    volumes.NewReport(&d),
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

func (in *volumeInspection) fields() output.Fields {
	fields := in.Report.Fields()
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
