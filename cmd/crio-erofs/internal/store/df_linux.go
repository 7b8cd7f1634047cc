package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/target"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver"
)

type dfOptions struct {
	roots  nodestore.Roots
	format output.Format
}

func newDfCommand() *cobra.Command {
	var o dfOptions
	cmd := &cobra.Command{
		Use:   "df [flags]",
		Short: "Show what a store takes on the disk",
		Long: `df sums up what volumes and containers take on the disk, how many of them containers need now, and what could be free:
store prune --all frees what is reclaimable of image volumes, temporary directories and volumes without a layer; that of
layer volumes takes removing the images that no container uses (crictl rmi --prune).`,
		Example: "  crio-erofs store df\n  crio-erofs store df --format '{{.Type}} {{.Size}}'",
		Args:    cli.ExactArgs(0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd.OutOrStdout()) },
	}
	target.AddFlag(cmd, &o.roots)
	output.AddFlag(cmd, &o.format, dfRow{})
	return cmd
}

// dfRow is a line of df.
type dfRow struct {
	Type        string `json:"type"`
	Total       int    `json:"total"`
	Active      int    `json:"active"` // that containers need
	Size        int64  `json:"size"`
	Reclaimable int64  `json:"reclaimable"`
}

func (r *dfRow) add(size int64, active bool) {
	r.Total++
	r.Size += size
	if active {
		r.Active++
	} else {
		r.Reclaimable += size
	}
}

func (o *dfOptions) run(stdout io.Writer) error {
	inv, err := takeInventory(&o.roots)
	if err != nil {
		return err
	}
	rows, err := usage(inv)
	if err != nil {
		return err
	}
	t := output.NewTable(output.Column{Name: "TYPE"}, output.Column{Name: "TOTAL", Right: true},
		output.Column{Name: "ACTIVE", Right: true}, output.Column{Name: "SIZE", Right: true}, output.Column{Name: "RECLAIMABLE", Right: true})
	for _, r := range rows {
		t.Add(r.Type, r.Total, r.Active, output.Size(r.Size), output.Size(r.Reclaimable)+percent(r.Reclaimable, r.Size))
	}
	var st unix.Statfs_t
	if err := unix.Statfs(o.roots.GraphRoot, &st); err != nil {
		return &fs.PathError{Op: "statfs", Path: o.roots.GraphRoot, Err: err}
	}
	free, size := int64(st.Bavail)*st.Bsize, int64(st.Blocks)*st.Bsize
	return o.format.Print(stdout, rows, t, output.Text(fmt.Sprintf("File system of %s: %s free of %s", o.roots.GraphRoot,
		output.Size(free), output.Size(size))))
}

func percent(part, whole int64) string {
	if whole == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d%%)", part*100/whole)
}

func usage(inv *nodestore.Inventory) ([]*dfRow, error) {
	layers, images, rest := &dfRow{Type: "Layer volumes"}, &dfRow{Type: "Image volumes"}, &dfRow{Type: "Volumes without layer"}
	for _, v := range inv.Volumes {
		row := map[string]*dfRow{nodestore.KindLayer: layers, nodestore.KindImage: images, nodestore.KindNone: rest}[v.Kind]
		row.add(v.Cost(), len(v.Containers) > 0)
	}
	writes := &dfRow{Type: "Written by containers"}
	for _, c := range inv.Containers {
		size, err := written(inv, c)
		if err != nil {
			return nil, err
		}
		writes.add(size, true)
	}
	temporary := &dfRow{Type: "Being made, or left over"}
	for _, r := range inv.Stores() {
		size, err := driver.TreeUsage(r.TemporaryDir())
		if err != nil {
			return nil, err
		}
		if entries, err := os.ReadDir(r.TemporaryDir()); err == nil && len(entries) > 0 { // else it is the directory itself
			temporary.Total, temporary.Size = temporary.Total+len(entries), temporary.Size+size
		}
	}
	return []*dfRow{layers, images, rest, writes, temporary}, nil
}

// written returns what a container has written, on the host and in its disk for a VM.
func written(inv *nodestore.Inventory, c *nodestore.Container) (int64, error) {
	paths := inv.LayerPaths(c.LayerID)
	size, err := driver.TreeUsage(paths.Diff)
	if err != nil {
		return 0, err
	}
	disk, err := driver.FileUsage(paths.RWLayer)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	return size + disk.Private(), nil
}
