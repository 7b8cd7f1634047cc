package files

import (
	"fmt"
	"time"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/tree"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
)

// Entry is what JSON and templates have of a file.
type Entry struct {
	Path   string            `json:"path"`
	Mode   string            `json:"mode"` // as ls shows it
	UID    uint32            `json:"uid"`
	GID    uint32            `json:"gid"`
	Size   int64             `json:"size"`
	MTime  time.Time         `json:"mtime"`
	Links  uint64            `json:"links"`
	Target string            `json:"target,omitempty"`
	Device string            `json:"device,omitempty"` // major:minor
	Xattrs map[string]string `json:"xattrs,omitempty"`
	Layer  int               `json:"layer"`          // in which layer it is, the lowest is 0
	Note   string            `json:"note,omitempty"` // what it means to overlayfs: "whiteout" or "opaque"
}

// NewEntry describes a file.
func NewEntry(path string, n *tree.Node) (*Entry, error) {
	e := &Entry{Path: path, Mode: tree.ModeText(n.Mode()), UID: n.UID(), GID: n.GID(), Size: n.Size(), MTime: n.ModTime().UTC(),
		Links: n.Nlink(), Device: n.Device(), Xattrs: n.Xattrs(), Layer: n.Layer(), Note: n.Note()}
	var err error
	if e.Mode[0] == 'l' {
		e.Target, err = n.Target()
	}
	return e, err
}

// Long returns the table that ls -l shows.
func Long(entries []*Entry, human bool) *output.Table {
	t := output.NewTable(output.Column{Name: "MODE"}, output.Column{Name: "LINKS", Right: true},
		output.Column{Name: "UID", Right: true}, output.Column{Name: "GID", Right: true},
		output.Column{Name: "SIZE", Right: true}, output.Column{Name: "MODIFIED"}, output.Column{Name: "PATH"})
	t.NoHeadings = true
	for _, e := range entries {
		size := fmt.Sprint(e.Size)
		switch {
		case e.Device != "":
			size = e.Device
		case human:
			size = output.Size(e.Size)
		}
		t.Add(e.Mode, e.Links, e.UID, e.GID, size, e.MTime.Format("2006-01-02 15:04:05"), e.PathText())
	}
	return t
}

// PathText is the path with what there is to say of it.
func (e *Entry) PathText() string {
	text := e.Path
	if e.Target != "" {
		text += " -> " + e.Target
	}
	if e.Note != "" {
		text += " (" + e.Note + ")"
	}
	return text
}
