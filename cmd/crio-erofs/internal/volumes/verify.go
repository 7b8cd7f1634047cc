package volumes

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/verity"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

type verifyOptions struct {
	rootHash string
	diffID   string
	image    string // digest
	// documents are files with the image's configuration and manifest.
	documents []string
	format    output.Format
}

func newVerifyCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify [flags] VOLUME...",
		Short: "Check a volume's data against its tree and root hash",
		Long: `verify reads a whole volume and checks its superblocks, its hash tree and its data. With --root-hash the volume must be the
one with that root hash; without, it must fit its own, which shows damage but not exchange.
Of a volume of layout tarfs the tar's sha256, which is the layer's diffID, is checked, too.
With --diff-id the volume must be what the layer with this diffID becomes: that shows exchange, too, and needs no root hash.
With --image, all volumes of an image are given, the lowest first, and must be what its layers become: nothing has to be known but
the digest of its configuration (its id) or of its manifest. Those documents may come from where the volumes do.
The first bad block's offset is printed and the exit status is 1 if anything does not fit.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.image == "" {
				return cli.ExactArgs(1)(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.image != "" {
				return o.runImage(cmd.Context(), cmd.OutOrStdout(), args)
			}
			return o.run(cmd.Context(), cmd.OutOrStdout(), args[0])
		},
	}
	cmd.Flags().StringVar(&o.rootHash, "root-hash", "", "the root hash that the volume must have, 64 hex digits")
	cmd.Flags().StringVar(&o.diffID, "diff-id", "", "the layer's diffID (sha256:…); for volumes of layout tarfs, which have the layer's tar")
	cmd.Flags().StringVar(&o.image, "image", "", "digest (sha256:…) of the image that the volumes, of layout tarfs, must be")
	cmd.Flags().StringArrayVar(&o.documents, "document", nil, "file with the image's configuration, or its manifest; for --image, may be given twice")
	output.AddFlag(cmd, &o.format, verdict{})
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
	if len(o.documents) > 0 {
		return cli.Usage(errors.New("--document is for --image"))
	}
	if o.rootHash != "" {
		if _, err := verity.ParseRoot(o.rootHash); err != nil {
			return cli.Usage(err)
		}
	}
	f, size, err := cli.OpenVolume(path)
	if err != nil {
		return err
	}
	defer f.Close()
	p := output.NewProgress("checking", size)
	info, err := volume.Verify(ctx, f, size, o.rootHash, p.Add)
	if err == nil && info.Tar != nil {
		err = info.VerifyTar(ctx, f)
	}
	if err == nil && o.diffID != "" {
		_, err = measure.VerifyTarfs(ctx, f, size, o.diffID)
	}
	p.End()
	if err != nil {
		if !o.format.IsTable() {
			err = errors.Join(o.format.Print(stdout, newVerdict(info, size, err)), err)
		}
		return fmt.Errorf("%s: %w", path, err)
	}
	v := newVerdict(info, size, nil)
	fields := output.Pairs("volume", path, "size", output.Bytes(size), "root_hash", v.RootHash)
	fields.AddIf("diff_id", v.DiffID)
	fields.Add("verified", output.Good("ok"))
	return o.format.Print(stdout, v, fields)
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
