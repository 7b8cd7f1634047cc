package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/target"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/tree"
)

func newCatCommand() *cobra.Command {
	var roots nodestore.Roots
	cmd := &cobra.Command{
		Use:   "cat [flags] REF PATH...",
		Short: "Write files of a volume or an image to standard output",
		Long: `cat writes what is in files of a volume, or of an image as its containers see them, without mounting it. It follows symbolic
links inside the tree. It does not check the data; verify does.

` + target.Help,
		Example: `  crio-erofs cat layer.erofs /etc/os-release
  crio-erofs cat quay.io/fedora/fedora:42 /etc/os-release`,
		Args: cli.MinimumArgs(2, "a volume or an image, and at least one path"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := target.Find(&roots, args[0])
			if err != nil {
				return err
			}
			s, closer, err := t.Open()
			if err != nil {
				return err
			}
			defer closer.Close()
			for _, p := range args[1:] {
				if err := cat(cmd.Context(), cmd.OutOrStdout(), s, p); err != nil {
					return fmt.Errorf("%s: %w", t.Label, err)
				}
			}
			return nil
		},
	}
	target.AddFlag(cmd, &roots)
	return cmd
}

func cat(ctx context.Context, w io.Writer, s *tree.Stack, p string) error {
	n, at, err := s.Lookup(p, true)
	if err != nil {
		return err
	}
	if !n.Mode().IsRegular() {
		return &fs.PathError{Op: "cat", Path: at, Err: errors.New("not a regular file: " + tree.ModeText(n.Mode()))}
	}
	f, err := n.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(w, cli.NewReader(ctx, f)); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	return nil
}
