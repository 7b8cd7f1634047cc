package files

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/target"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/tree"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
)

type diffOptions struct {
	roots    nodestore.Roots
	ignore   []string
	exitCode bool
	format   output.Format
}

func newDiffCommand() *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:   "diff [flags] REF REF",
		Short: "Show in which files two volumes or images differ",
		Long: `diff compares the trees of two volumes or images: names, types, permissions, owners, times, links, devices, extended
attributes and content. It prints a line for each path: A, it is in the second only; D, in the first only; C, in both and
changed, and what of it.

` + target.Help,
		Example: `  crio-erofs diff old.erofs new.erofs
  crio-erofs diff --ignore mtime app:1 app:2
  crio-erofs diff --format json app:1 app:2 | jq -r '.[] | select(.kind == "C") | .path'`,
		Args: cli.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), args[0], args[1])
		},
	}
	target.AddFlag(cmd, &o.roots)
	cmd.Flags().StringSliceVar(&o.ignore, "ignore", nil, "what may differ, with commas between: "+strings.Join(tree.Aspects, ", "))
	cmd.Flags().BoolVar(&o.exitCode, "exit-code", false, "exit with status 1 if there are differences")
	output.AddFlag(cmd, &o.format, change{})
	return cmd
}

// change is a line of diff's output.
type change struct {
	Kind string   `json:"kind"` // A, C or D
	Path string   `json:"path"`
	What []string `json:"what,omitempty"` // of C: what differs
	Old  *Entry   `json:"old,omitempty"`
	New  *Entry   `json:"new,omitempty"`
}

func (o *diffOptions) run(ctx context.Context, stdout io.Writer, refA, refB string) error {
	if err := tree.CheckAspects(o.ignore); err != nil {
		return cli.Usage(fmt.Errorf("--ignore: %w", err))
	}
	a, b, closeBoth, err := o.openBoth(refA, refB)
	if err != nil {
		return err
	}
	defer closeBoth()
	p := output.NewProgress("comparing", 0)
	changes := []*change{}
	err = tree.Diff(ctx, a, b, o.ignore, p.Add, func(c tree.Change) error {
		found, err := newChange(c)
		changes = append(changes, found)
		return err
	})
	p.End()
	if err != nil {
		return fmt.Errorf("diff %s %s: %w", refA, refB, err)
	}
	t := output.NewTable(output.Column{Name: "KIND"}, output.Column{Name: "PATH"}, output.Column{Name: "WHAT"})
	t.NoHeadings = true
	for _, c := range changes {
		t.Add(c.paint(), c.Path, c.whatText())
	}
	if err := o.format.Print(stdout, changes, t); err != nil {
		return err
	}
	if o.exitCode && len(changes) > 0 {
		return fmt.Errorf("%s and %s differ in %d paths", refA, refB, len(changes))
	}
	return nil
}

func (o *diffOptions) openBoth(refA, refB string) (a, b *tree.Stack, closeBoth func(), err error) {
	stacks, closers := [2]*tree.Stack{}, []io.Closer{}
	closeBoth = func() {
		for _, c := range closers {
			c.Close()
		}
	}
	for i, ref := range []string{refA, refB} {
		t, err := target.Find(&o.roots, ref)
		if err == nil {
			var c io.Closer
			if stacks[i], c, err = t.Open(); err == nil {
				closers = append(closers, c)
			}
		}
		if err != nil {
			closeBoth()
			return nil, nil, nil, err
		}
	}
	return stacks[0], stacks[1], closeBoth, nil
}

func newChange(c tree.Change) (found *change, err error) {
	found = &change{Kind: "C", Path: c.Path, What: c.What}
	if c.Old == nil {
		found.Kind = "A"
	} else if found.Old, err = NewEntry(c.Path, c.Old); err != nil {
		return found, err
	}
	if c.New == nil {
		found.Kind = "D"
	} else if found.New, err = NewEntry(c.Path, c.New); err != nil {
		return found, err
	}
	return found, nil
}

func (c *change) paint() any {
	switch c.Kind {
	case "A":
		return output.Good(c.Kind)
	case "D":
		return output.Bad(c.Kind)
	}
	return output.Warn(c.Kind)
}

// whatText says what of a file changed, "mode -rw-r--r-- to -rwxr-xr-x, content".
func (c *change) whatText() string {
	texts := make([]string, len(c.What))
	for i, what := range c.What {
		before, after := aspect(what, c.Old), aspect(what, c.New)
		if texts[i] = what; before != after {
			texts[i] += " " + before + " to " + after
		}
	}
	return strings.Join(texts, ", ")
}

// aspect returns what an entry has of an aspect, for people.
func aspect(what string, e *Entry) string {
	switch what {
	case "type", "mode":
		return e.Mode
	case "owner":
		return fmt.Sprintf("%d:%d", e.UID, e.GID)
	case "size":
		return fmt.Sprint(e.Size)
	case "mtime":
		return e.MTime.Format("2006-01-02T15:04:05.999999999Z")
	case "target":
		return e.Target
	case "device":
		return e.Device
	case "xattrs":
		names := slices.Sorted(maps.Keys(e.Xattrs))
		return "[" + strings.Join(names, " ") + "]"
	}
	return ""
}
