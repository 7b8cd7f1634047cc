package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/containers/storage"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// stored inspects what the node's store has under a name.
func (o *inspectOptions) stored(ctx context.Context, stdout io.Writer, arg string) error {
	s, err := nodestore.Open(&o.roots)
	if err != nil {
		return fmt.Errorf("%s is no file, and the store cannot be read: %w", arg, err)
	}
	if img, err := s.FindImage(arg); !errors.Is(err, nodestore.ErrNotFound) {
		if err != nil {
			return err
		}
		in, err := inspectImage(s, img)
		if err != nil {
			return err
		}
		return o.format.Print(stdout, in, in.blocks()...)
	}
	if c, err := s.FindContainer(arg); !errors.Is(err, nodestore.ErrNotFound) {
		if err != nil {
			return err
		}
		in, err := inspectContainer(s, c)
		if err != nil {
			return err
		}
		return o.format.Print(stdout, in, in.blocks()...)
	}
	path, err := s.FindVolume(arg)
	if err != nil {
		return fmt.Errorf("%s is no file, image, container or volume of %s", arg, o.roots.GraphRoot)
	}
	return o.volume(ctx, stdout, path)
}

// imageInspection is what inspect prints of an image as JSON.
type imageInspection struct {
	ID         string           `json:"id"`
	Names      []string         `json:"names"`
	Digest     string           `json:"digest,omitempty"`
	Created    time.Time        `json:"created"`
	TopLayer   string           `json:"top_layer"`
	Containers []containerUse   `json:"containers"`
	Manifest   *volume.Manifest `json:"manifest"` // as a container of the image would have it
}

// containerUse is a container of an image.
type containerUse struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Use  string `json:"use"`
}

func inspectImage(s *nodestore.Store, img *storage.Image) (*imageInspection, error) {
	m, err := s.DescribeImage(img.TopLayer)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", nodestore.Label(img), err)
	}
	m.ID, m.MountPoint = "", "" // there is no container
	in := &imageInspection{ID: img.ID, Names: img.Names, Digest: img.Digest.String(), Created: img.Created,
		TopLayer: img.TopLayer, Manifest: m, Containers: []containerUse{}}
	for _, c := range s.Containers {
		if c.ImageID == img.ID {
			in.Containers = append(in.Containers, containerUse{ID: c.ID, Name: c.Title(), Use: c.Use()})
		}
	}
	return in, nil
}

func (in *imageInspection) blocks() []output.Block {
	fields := output.Pairs("image", in.ID, "names", strings.Join(in.Names, ", "))
	fields.AddIf("digest", in.Digest)
	fields.Add("created", in.Created.Format(time.RFC3339))
	addManifest(&fields, in.Manifest)
	blocks := []output.Block{fields, volumesTable(in.Manifest)}
	if len(in.Containers) > 0 {
		t := output.NewTable(output.Column{Name: "CONTAINER"}, output.Column{Name: "NAME", Cut: 20}, output.Column{Name: "USE"})
		for _, c := range in.Containers {
			t.Add(nodestore.ShortID(c.ID), c.Name, c.Use)
		}
		blocks = append(blocks, t)
	}
	return blocks
}

// addManifest adds what a manifest says of the whole image.
func addManifest(fields *output.Fields, m *volume.Manifest) {
	if m.Refusal != "" {
		fields.Add("refusal", output.Bad(m.Refusal))
	}
	switch {
	case m.Image != nil && m.Image.Verity != nil:
		fields.Add("image_root_hash", m.Image.Verity.RootHash)
		fields.Add("image_volume", m.Image.Path)
	case m.Image != nil:
		fields.Add("image_volume", m.Image.Path)
	case m.Refusal == "":
		fields.Add("image_volume", "none: "+m.NoImage)
	}
}

func volumesTable(m *volume.Manifest) *output.Table {
	t := output.NewTable(output.Column{Name: "VOLUME", Right: true}, output.Column{Name: "LAYOUT"},
		output.Column{Name: "SIZE", Right: true}, output.Column{Name: "ROOT HASH", Cut: 24}, output.Column{Name: "DIFF ID", Cut: 19},
		output.Column{Name: "LAYER", Cut: 12})
	for i := range m.Volumes {
		v := &m.Volumes[i]
		root := "none"
		if v.Verity != nil {
			root = v.Verity.RootHash
		}
		t.Add(i, v.Layout, output.Size(v.Size), root, v.DiffID, v.LayerID)
	}
	return t
}
