package store

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/containers/storage"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/target"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
)

type lsOptions struct {
	roots   nodestore.Roots
	volumes bool
	format  output.Format
}

func newLsCommand() *cobra.Command {
	var o lsOptions
	cmd := &cobra.Command{
		Use:   "ls [flags]",
		Short: "List the images of a store with what their volumes take",
		Long: `ls lists images: of how many layers they are, what their volumes take on the disk, how much of that they share with other
images and how much would be free without them, their image volume, and which modes and runtime handlers their containers
use. With --volumes it lists volumes.

An image volume shares its blocks with the layers' volumes where the file system can (XFS, btrfs); only what it has for
itself counts. The store is read without a lock, so this can be done at any time.`,
		Example: `  crio-erofs store ls
  crio-erofs store ls --volumes
  crio-erofs store ls --format '{{.ID}} {{.Unique}}'`,
		Args: cli.ExactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.OutOrStdout()) },
	}
	target.AddFlag(cmd, &o.roots)
	cmd.Flags().BoolVar(&o.volumes, "volumes", false, "list volumes instead of images")
	output.AddFlag(cmd, &o.format, imageRow{})
	return cmd
}

// takeInventory looks at a store, and warns of what cannot be read.
func takeInventory(roots *nodestore.Roots) (*nodestore.Inventory, error) {
	s, err := nodestore.Open(roots)
	if err != nil {
		return nil, err
	}
	if s.Unread != nil {
		logrus.Warnf("Records of layers: %v", s.Unread)
	}
	return s.TakeInventory()
}

func (o *lsOptions) run(stdout io.Writer) error {
	inv, err := takeInventory(&o.roots)
	if err != nil {
		return err
	}
	if o.volumes {
		return o.format.Print(stdout, inv.Sorted(), volumesTable(inv))
	}
	rows := []*imageRow{}
	for _, img := range inv.Images {
		rows = append(rows, newImageRow(inv, img))
	}
	return o.format.Print(stdout, rows, imagesTable(rows))
}

// imageRow is what ls has of an image.
type imageRow struct {
	ID          string         `json:"id"`
	Names       []string       `json:"names"`
	Layers      int            `json:"layers"`
	Size        int64          `json:"size"`   // of all its volumes on the disk
	Shared      int64          `json:"shared"` // with other images
	Unique      int64          `json:"unique"` // what is free when it is gone
	Volumes     []string       `json:"volumes"`
	ImageVolume string         `json:"image_volume,omitempty"` // the volume that is the whole image
	RootHash    string         `json:"root_hash,omitempty"`    // of that
	Uses        map[string]int `json:"uses"`                   // mode and handler, and how many containers
}

func newImageRow(inv *nodestore.Inventory, img *storage.Image) *imageRow {
	row := &imageRow{ID: img.ID, Names: img.Names, Layers: len(inv.Chain(img.TopLayer)), Volumes: []string{}, Uses: map[string]int{}}
	volumes := inv.OfImage(img)
	for _, v := range volumes {
		row.Volumes = append(row.Volumes, v.Name)
		row.Size += v.Cost()
		if len(v.Images) > 1 {
			row.Shared += v.Cost()
		}
	}
	row.Unique = row.Size - row.Shared
	if n := len(volumes); n == 1 || n > 0 && volumes[n-1].Kind == nodestore.KindImage {
		row.ImageVolume, row.RootHash = volumes[n-1].Name, volumes[n-1].RootHash
	}
	for _, c := range inv.ContainersOf(img) {
		row.Uses[c.Use()]++
	}
	return row
}

func imagesTable(rows []*imageRow) *output.Table {
	t := output.NewTable(output.Column{Name: "IMAGE"}, output.Column{Name: "NAMES", Cut: 24}, output.Column{Name: "LAYERS", Right: true},
		output.Column{Name: "SIZE", Right: true}, output.Column{Name: "SHARED", Right: true},
		output.Column{Name: "UNIQUE", Right: true}, output.Column{Name: "IMAGE VOLUME", Cut: 12}, output.Column{Name: "USED BY", Cut: 12})
	for _, r := range rows {
		names := strings.Join(r.Names, ", ")
		if names == "" {
			names = "<none>"
		}
		t.Add(nodestore.ShortID(r.ID), names, r.Layers, output.Size(r.Size), output.Size(r.Shared), output.Size(r.Unique),
			orDash(r.ImageVolume), orDash(usesText(r.Uses)))
	}
	return t
}

// usesText says how containers use an image, "2 image-verity (kata-erofs)".
func usesText(uses map[string]int) string {
	var texts []string
	for _, use := range slices.Sorted(maps.Keys(uses)) {
		texts = append(texts, fmt.Sprintf("%d %s", uses[use], use))
	}
	return strings.Join(texts, ", ")
}

func volumesTable(inv *nodestore.Inventory) *output.Table {
	t := output.NewTable(output.Column{Name: "VOLUME"}, output.Column{Name: "KIND"}, output.Column{Name: "LAYOUT"},
		output.Column{Name: "SIZE", Right: true}, output.Column{Name: "ON DISK", Right: true},
		output.Column{Name: "SHARED", Right: true}, output.Column{Name: "IMAGES", Cut: 24}, output.Column{Name: "CONTAINERS", Right: true})
	labels := map[string]string{}
	for _, img := range inv.Images {
		labels[img.ID] = nodestore.Label(img)
	}
	for _, v := range inv.Sorted() {
		images := make([]string, len(v.Images))
		for i, id := range v.Images {
			images[i] = labels[id]
		}
		if v.Problem != "" {
			t.Add(v.Name, v.Kind, output.Bad(v.Problem))
			continue
		}
		t.Add(v.Name, v.Kind, v.Layout, output.Size(v.Size), output.Size(v.Allocated), output.Size(v.Shared),
			orDash(strings.Join(images, ", ")), len(v.Containers))
	}
	return t
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
