package inspect

import (
	"context"
	"io/fs"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/files"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/tree"
)

// typeCount counts names by type; a file with three hard links counts three times.
type typeCount struct {
	Files       int64 `json:"files"`
	FileBytes   int64 `json:"file_bytes"`
	Directories int64 `json:"directories"`
	Symlinks    int64 `json:"symlinks"`
	Devices     int64 `json:"devices"`
	FIFOs       int64 `json:"fifos"`
	Whiteouts   int64 `json:"whiteouts"`
	Opaque      int64 `json:"opaque"`
}

// listFiles returns all files of a tree and their count.
func listFiles(ctx context.Context, s *tree.Stack) (entries []*files.Entry, count typeCount, err error) {
	root, err := s.Root()
	if err != nil {
		return nil, count, err
	}
	err = s.Walk("/", root, func(path string, n *tree.Node) error {
		e, err := files.NewEntry(path, n)
		if err != nil {
			return err
		}
		entries = append(entries, e)
		count.add(n)
		return ctx.Err()
	})
	return entries, count, err
}

func (c *typeCount) add(n *tree.Node) {
	switch t := n.Mode().Type(); {
	case n.Note() == "whiteout":
		c.Whiteouts++
	case t.IsRegular():
		c.Files++
		c.FileBytes += n.Size()
	case t.IsDir():
		c.Directories++
		if n.Note() == "opaque" {
			c.Opaque++
		}
	case t&fs.ModeSymlink != 0:
		c.Symlinks++
	case t&fs.ModeNamedPipe != 0:
		c.FIFOs++
	default:
		c.Devices++
	}
}
