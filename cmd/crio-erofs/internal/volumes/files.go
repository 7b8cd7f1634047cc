package volumes

import (
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	goerofs "github.com/erofs/go-erofs"

	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
)

// fileEntry is a line of a volume's listing.
type fileEntry struct {
	Path   string    `json:"path"`
	Mode   string    `json:"mode"` // as ls shows it
	UID    uint32    `json:"uid"`
	GID    uint32    `json:"gid"`
	Size   int64     `json:"size"`
	MTime  time.Time `json:"mtime"`
	Links  uint64    `json:"links"`
	Target string    `json:"target,omitempty"`
	Device string    `json:"device,omitempty"` // major:minor
	Note   string    `json:"note,omitempty"`   // what it means to overlayfs: "whiteout" or "opaque"
}

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

// fileInfo is what go-erofs's FileInfos offer besides fs.FileInfo.
type fileInfo interface {
	fs.FileInfo
	UID() uint32
	GID() uint32
	Nlink() uint64
	Rdev() uint64
	GetXattr(name string) (string, bool)
}

// listFiles reads the tree of an image with go-erofs, a reader that we did not write.
func listFiles(r io.ReaderAt) (files []fileEntry, count typeCount, err error) {
	img, err := goerofs.Open(r)
	if err != nil {
		return nil, count, err
	}
	err = fs.WalkDir(img, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		e, err := newFileEntry(img, path, d)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		count.add(e, d.Type())
		files = append(files, e)
		return nil
	})
	return files, count, err
}

func newFileEntry(img fs.FS, path string, d fs.DirEntry) (fileEntry, error) {
	plain, err := d.Info()
	if err != nil {
		return fileEntry{}, err
	}
	fi, ok := plain.(fileInfo)
	if !ok {
		return fileEntry{}, fmt.Errorf("[should never happen] go-erofs gave a %T", plain)
	}
	e := fileEntry{Path: "/" + path, Mode: strings.TrimPrefix(fi.Mode().String(), "D"), UID: fi.UID(), GID: fi.GID(), Size: fi.Size(),
		MTime: fi.ModTime().UTC(), Links: fi.Nlink()}
	if path == "." {
		e.Path = "/"
	}
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		if e.Target, err = fs.ReadLink(img, path); err != nil {
			return e, err
		}
	case fi.Mode()&fs.ModeDevice != 0:
		major, minor := decodeDev(fi.Rdev())
		e.Device = fmt.Sprintf("%d:%d", major, minor)
		if fi.Mode()&fs.ModeCharDevice != 0 && fi.Rdev() == 0 {
			e.Note = "whiteout"
		}
	case fi.IsDir():
		if v, _ := fi.GetXattr("trusted.overlay.opaque"); v == "y" {
			e.Note = "opaque"
		}
	}
	return e, nil
}

// decodeDev is the kernel's new_decode_dev (include/linux/kdev_t.h).
func decodeDev(dev uint64) (major, minor uint64) {
	return dev >> 8 & 0xfff, dev&0xff | dev>>12&0xfff00
}

func (c *typeCount) add(e fileEntry, t fs.FileMode) {
	switch {
	case e.Note == "whiteout":
		c.Whiteouts++
	case t.IsRegular():
		c.Files++
		c.FileBytes += e.Size
	case t.IsDir():
		c.Directories++
		if e.Note == "opaque" {
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

func filesTable(files []fileEntry) *output.Table {
	t := output.NewTable(output.Column{Name: "MODE"}, output.Column{Name: "LINKS", Right: true}, output.Column{Name: "OWNER"},
		output.Column{Name: "SIZE", Right: true}, output.Column{Name: "MODIFIED"}, output.Column{Name: "PATH"})
	for _, f := range files {
		size := fmt.Sprint(f.Size)
		if f.Device != "" {
			size = f.Device
		}
		path := f.Path
		if f.Target != "" {
			path += " -> " + f.Target
		}
		if f.Note != "" {
			path += " (" + f.Note + ")"
		}
		t.Add(f.Mode, f.Links, fmt.Sprintf("%d:%d", f.UID, f.GID), size, f.MTime.Format("2006-01-02 15:04:05"), path)
	}
	return t
}
