package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/target"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/tree"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
)

type lsOptions struct {
	roots     nodestore.Roots
	long      bool
	recursive bool
	directory bool
	human     bool
	format    output.Format
}

func newLsCommand() *cobra.Command {
	var o lsOptions
	cmd := &cobra.Command{
		Use:   "ls [flags] REF [PATH...]",
		Short: "List files in a volume or an image",
		Long: `ls lists what is in a volume, or in an image as its containers see it, without mounting it. Of a volume by itself it shows
whiteouts, too. Symbolic links on the way to PATH are followed inside the tree.

` + target.Help,
		Example: `  crio-erofs ls -l layer.erofs
  crio-erofs ls -lR base.erofs,layer.erofs /etc
  crio-erofs ls -l quay.io/fedora/fedora:42 /usr/bin
  crio-erofs ls -R --format '{{.Mode}} {{.Path}} {{json .Xattrs}}' layer.erofs`,
		Args: cli.MinimumArgs(1, "a volume or an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), args[0], args[1:])
		},
	}
	target.AddFlag(cmd, &o.roots)
	cmd.Flags().BoolVarP(&o.long, "long", "l", false, "mode, links, owner, size and time, too")
	cmd.Flags().BoolVarP(&o.recursive, "recursive", "R", false, "with all that is below")
	cmd.Flags().BoolVarP(&o.directory, "directory", "d", false, "directories themselves, not what is in them")
	cmd.Flags().BoolVar(&o.human, "human-readable", false, "sizes in units")
	output.AddFlag(cmd, &o.format, Entry{})
	return cmd
}

func (o *lsOptions) run(ctx context.Context, stdout io.Writer, ref string, paths []string) error {
	t, err := target.Find(&o.roots, ref)
	if err != nil {
		return err
	}
	s, closer, err := t.Open()
	if err != nil {
		return err
	}
	defer closer.Close()
	if len(paths) == 0 {
		paths = []string{"/"}
	}
	entries := []*Entry{}
	var missing []error
	for _, p := range paths {
		more, err := o.list(ctx, s, p)
		entries = append(entries, more...)
		if err != nil {
			missing = append(missing, fmt.Errorf("%s: %w", t.Label, err))
		}
	}
	if err := o.format.Print(stdout, entries, o.block(entries)); err != nil {
		return err
	}
	return errors.Join(missing...)
}

func (o *lsOptions) block(entries []*Entry) output.Block {
	if o.long {
		return Long(entries, o.human)
	}
	var names strings.Builder
	for _, e := range entries {
		names.WriteString(output.Escape(e.Path) + "\n")
	}
	return output.Text(names.String())
}

// list returns what is at a path. Paths are as they were asked for, so that links stay in sight.
func (o *lsOptions) list(ctx context.Context, s *tree.Stack, name string) (entries []*Entry, err error) {
	follow := !o.long && !o.directory || strings.HasSuffix(name, "/")
	n, at, err := s.Lookup(name, follow)
	if err != nil {
		return nil, err
	}
	add := func(p string, n *tree.Node) error {
		e, err := NewEntry(p, n)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		entries = append(entries, e)
		return ctx.Err()
	}
	switch {
	case o.directory || !n.IsDir():
		return entries, add(at, n)
	case o.recursive:
		err := s.Walk(at, n, add)
		return entries, err
	}
	children, err := s.ReadDir(n)
	if err != nil {
		return nil, err
	}
	for _, child := range children {
		if err := add(path.Join(at, child.Name()), child); err != nil {
			return entries, err
		}
	}
	return entries, nil
}
