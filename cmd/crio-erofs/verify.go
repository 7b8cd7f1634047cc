package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/verity"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

type verifyOptions struct {
	rootHash string
	diffID   string
	format   outputFormat
}

func newVerifyCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify [flags] VOLUME",
		Short: "Check a volume's data against its tree and root hash",
		Long: `verify reads a whole volume and checks its superblocks, its hash tree and its data. With --root-hash the volume must be the
one with that root hash; without, it must fit its own, which shows damage but not exchange.
Of a volume of layout tarfs the tar's sha256, which is the layer's diffID, is checked, too.
With --diff-id the volume must be what the layer with this diffID becomes: that shows exchange, too, and needs no root hash.
The first bad block's offset is printed and the exit status is 1 if anything does not fit.`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), args[0])
		},
	}
	cmd.Flags().StringVar(&o.rootHash, "root-hash", "", "the root hash that the volume must have, 64 hex digits")
	cmd.Flags().StringVar(&o.diffID, "diff-id", "", "the layer's diffID (sha256:…); for volumes of layout tarfs, which have the layer's tar")
	addFormatFlag(cmd.Flags(), &o.format)
	return cmd
}

// verdict is what verify prints as JSON.
type verdict struct {
	OK        bool   `json:"ok"`
	RootHash  string `json:"root_hash,omitempty"`
	DiffID    string `json:"diff_id,omitempty"` // of layout tarfs: the sha256 of the tar in the volume
	Size      int64  `json:"size"`
	Error     string `json:"error,omitempty"`
	BadOffset *int64 `json:"bad_offset,omitempty"` // of the first bad block
}

func (o *verifyOptions) run(ctx context.Context, stdout io.Writer, path string) error {
	if o.rootHash != "" {
		if _, err := verity.ParseRoot(o.rootHash); err != nil {
			return usageError{err}
		}
	}
	f, size, err := openVolume(path)
	if err != nil {
		return err
	}
	defer f.Close()
	p := newProgress("checking", size)
	info, err := volume.Verify(ctx, f, size, o.rootHash, p.add)
	if err == nil && info.Tar != nil {
		err = info.VerifyTar(ctx, f)
	}
	if err == nil && o.diffID != "" {
		_, err = measure.VerifyTarfs(ctx, f, size, o.diffID)
	}
	p.end()
	if o.format == formatJSON {
		if printErr := printJSON(stdout, newVerdict(info, size, err)); printErr != nil {
			return printErr
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if o.format == formatTable {
		fields := []field{{"volume", path}, {"size", bytesText(size)}, {"root_hash", info.Verity.RootHash}}
		if info.Tar != nil {
			fields = append(fields, field{"diff_id", tarDigest(info)})
		}
		return printFields(stdout, append(fields, field{"verified", "ok"}))
	}
	return nil
}

func newVerdict(info *volume.Info, size int64, err error) verdict {
	v := verdict{OK: err == nil, Size: size}
	if err != nil {
		v.Error = err.Error()
		var corrupt *verity.CorruptError
		if errors.As(err, &corrupt) {
			v.BadOffset = &corrupt.Offset
		}
	} else {
		v.RootHash = info.Verity.RootHash
		if info.Tar != nil {
			v.DiffID = tarDigest(info)
		}
	}
	return v
}

func tarDigest(info *volume.Info) string { return fmt.Sprintf("sha256:%x", info.Tar.SHA256) }

// openVolume opens a file or block device and returns its size.
func openVolume(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	size, err := f.Seek(0, io.SeekEnd) // knows the size of block devices, too
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, size, nil
}
