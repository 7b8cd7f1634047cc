package node

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/doctor"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
)

// Commands returns the commands.
func Commands() []*cobra.Command { return []*cobra.Command{newDoctorCommand()} }

type doctorOptions struct {
	node   doctor.Options
	format output.Format
}

func newDoctorCommand() *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Look for what keeps this node's containers from getting volumes, and say what to change",
		Long: `doctor looks at everything that a container's volumes need on this node: the kernel (by mounting a tiny volume in the place of the
store), CRI-O's program and configuration, the NRI plugin, the guard, the shim of each handler, Kata's shim behind it and what Kata's
configuration lets it do, and crio-erofs's own configuration. It changes nothing.

If CRI-O runs, doctor goes by its command line, environment and answer, and says if its files have changed since it was started.
With --root it looks at the files of a tree, such as an image for nodes, and at nothing that has to be tried.

EXIT STATUS
  0  all is well; there may be advice
  1  something keeps containers from starting, or the command failed
  2  wrong arguments
  3  nothing is known to be wrong, but something could not be told, for example because CRI-O does not run`,
		Args: cli.ExactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			logrus.SetLevel(logrus.ErrorLevel) // what libraries warn of is in the findings
			return o.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.node.Root, "root", "", "look at the node that the tree in this directory will be")
	flags.StringVar(&o.node.CrioProgram, "crio", "", "CRI-O's program (default: the one that runs, or the installed one)")
	flags.StringVar(&o.node.CrioConfig, "crio-config", "", "CRI-O's configuration file (default: as the running CRI-O)")
	flags.StringVar(&o.node.CrioConfigDir, "crio-config-dir", "", "CRI-O's directory of drop-ins (default: as the running CRI-O)")
	flags.StringVar(&o.node.Socket, "crio-socket", "", "CRI-O's socket (default: as it is configured)")
	flags.StringVar(&o.node.Config, "config", "", "crio-erofs's configuration file (default: as CRI-O's environment says)")
	output.AddFlag(cmd, &o.format, doctor.Report{})
	return cmd
}

func (o *doctorOptions) run(ctx context.Context, stdout io.Writer) error {
	n, err := doctor.Open(ctx, o.node)
	if err != nil {
		return cli.Usage(err)
	}
	r := n.Examine(ctx)
	if err := o.format.Print(stdout, r, doctorBlocks(r)...); err != nil {
		return err
	}
	switch r.State {
	case doctor.Problem:
		return fmt.Errorf("%d problems", count(r, doctor.Problem))
	case doctor.Unknown:
		return cli.Unknown(fmt.Errorf("%d things could not be told", count(r, doctor.Unknown)))
	}
	return nil
}

func count(r *doctor.Report, state doctor.State) (n int) {
	for _, f := range r.Findings {
		if f.State == state {
			n++
		}
	}
	return n
}

// doctorBlocks has all findings in a table, and what to change in whole sentences.
func doctorBlocks(r *doctor.Report) []output.Block {
	const least = 40
	table := output.NewTable(output.Column{Name: "STATE"}, output.Column{Name: "CHECK"}, output.Column{Name: "ABOUT", Cut: 20},
		output.Column{Name: "FOUND", Cut: least})
	var mends []string
	for _, f := range r.Findings {
		table.Add(paintState(f.State), f.Check, f.Subject, f.Found)
		if f.Mend == "" {
			continue
		}
		name := f.Check
		if f.Subject != "" {
			name += " " + f.Subject
		}
		mends = append(mends, fmt.Sprintf("%s: %s: %s.\n  → %s.\n", f.State, name, f.Found, f.Mend))
	}
	return []output.Block{table, output.Text(strings.Join(mends, ""))}
}

func paintState(s doctor.State) any {
	switch s {
	case doctor.Good:
		return output.Good(s)
	case doctor.Problem:
		return output.Bad(s)
	}
	return output.Warn(s)
}
