package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/Microsoft/hcsshim/ext4/dmverity"
	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
	graphdriver "github.com/containers/storage/drivers"
	_ "github.com/containers/storage/drivers/overlay" // registers itself
	"github.com/spf13/cobra"
)

// newPeerCommand is how this program starts itself as one of the peers that are libraries.
func newPeerCommand() *cobra.Command {
	peers := map[string]func(in *os.File, out string) error{
		"go-erofs": goErofs,
		"tar2ext4": tar2ext4Verity,
		"overlay":  overlayApplyDiff,
	}
	return &cobra.Command{
		Use:    "peer NAME TAR OUT",
		Hidden: true,
		Args:   cobra.ExactArgs(3),
		RunE: func(_ *cobra.Command, args []string) error {
			peer, ok := peers[args[0]]
			if !ok {
				return fmt.Errorf("peer %q is not known", args[0])
			}
			in, err := os.Open(args[1])
			if err != nil {
				return err
			}
			defer in.Close()
			return peer(in, args[2])
		},
	}
}

// tar2ext4Verity is what Azure's confidential containers make of a layer, with the options of hcsshim's own
// cmd/dmverity-vhd, but for the footer that makes a disk image of it.
func tar2ext4Verity(in *os.File, out string) (err error) {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return tar2ext4.Convert(in, f, tar2ext4.ConvertWhiteout, tar2ext4.MaximumDiskSize(dmverity.RecommendedVHDSizeGB),
		tar2ext4.AppendDMVerity)
}

// overlayApplyDiff unpacks a layer as CRI-O with containers/storage's overlay driver does.
func overlayApplyDiff(in *os.File, out string) (err error) {
	root := filepath.Join(out, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	d, err := graphdriver.New("overlay", graphdriver.Options{Root: root, RunRoot: filepath.Join(out, "run")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Cleanup()) }()
	if err := d.Create("layer", "", nil); err != nil {
		return err
	}
	_, err = d.ApplyDiff("layer", "", graphdriver.ApplyDiffOpts{Diff: in})
	return err
}
