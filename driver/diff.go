package driver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/archive"
	"github.com/containers/storage/pkg/directory"
	"github.com/containers/storage/pkg/idtools"
	"github.com/containers/storage/pkg/ioutils"
	"golang.org/x/sys/unix"
)

// contents are directories with the content of a layer and of its ancestors, each alone and in overlayfs's form.
// Volumes are mounted for it, attached nowhere, so that nothing is left if the process dies.
type contents struct {
	dirs   []string // the layer first
	mounts []*os.File
}

// openContents opens the content of the layers of a chain.
func (d *Driver) openContents(chain []*layer) (*contents, error) {
	c := &contents{}
	for _, l := range chain {
		if l.Kind == kindDirectory {
			c.dirs = append(c.dirs, d.storeOf(l).diffDir(l.ID))
			continue
		}
		mnt, err := d.openVolume(l.Volume)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("content of layer %s: %w", l.ID, err), c.close())
		}
		c.mounts = append(c.mounts, mnt)
		c.dirs = append(c.dirs, fdPath(mnt))
	}
	return c, nil
}

func (c *contents) close() error {
	var errs []error
	for _, mnt := range c.mounts {
		errs = append(errs, mnt.Close())
	}
	return errors.Join(errs...)
}

// ownChain returns the layer's chain if parent is its parent. If not, only the naive way compares the two.
func (d *Driver) ownChain(id, parent string) ([]*layer, bool, error) {
	chain, err := d.chain(id)
	if err != nil {
		return nil, false, err
	}
	return chain, chain[0].Parent == parent, nil
}

// Diff returns the difference between a layer and another as a tar stream with AUFS whiteouts.
func (d *Driver) Diff(id string, idMappings *idtools.IDMappings, parent string, parentMappings *idtools.IDMappings,
	mountLabel string) (io.ReadCloser, error) {
	chain, own, err := d.ownChain(id, parent)
	if err != nil {
		return nil, err
	}
	if !own {
		return d.naive.Diff(id, idMappings, parent, parentMappings, mountLabel)
	}
	if idMappings == nil {
		idMappings = &idtools.IDMappings{}
	}
	c, err := d.openContents(chain)
	if err != nil {
		return nil, err
	}
	stream, err := archive.TarWithOptions(c.dirs[0], &archive.TarOptions{
		Compression:    archive.Uncompressed,
		UIDMaps:        idMappings.UIDs(),
		GIDMaps:        idMappings.GIDs(),
		WhiteoutFormat: archive.OverlayWhiteoutFormat,
		WhiteoutData:   c.dirs[1:],
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("diff of layer %s: %w", id, err), c.close())
	}
	return ioutils.NewReadCloserWrapper(stream, func() error {
		return errors.Join(stream.Close(), c.close())
	}), nil
}

// Changes lists what differs between a layer and another.
func (d *Driver) Changes(id string, idMappings *idtools.IDMappings, parent string, parentMappings *idtools.IDMappings,
	mountLabel string) (_ []archive.Change, err error) {
	chain, own, err := d.ownChain(id, parent)
	if err != nil {
		return nil, err
	}
	if !own {
		return d.naive.Changes(id, idMappings, parent, parentMappings, mountLabel)
	}
	c, err := d.openContents(chain)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	changes, err := archive.OverlayChanges(c.dirs[1:], c.dirs[0])
	if err != nil {
		return nil, fmt.Errorf("changes of layer %s: %w", id, err)
	}
	return changes, nil
}

// DiffSize returns the sum of the sizes of the files that differ between a layer and another.
func (d *Driver) DiffSize(id string, idMappings *idtools.IDMappings, parent string, parentMappings *idtools.IDMappings,
	mountLabel string) (int64, error) {
	l, err := d.readLayer(id)
	if err != nil {
		return 0, err
	}
	switch {
	case l.Parent != parent:
		return d.naive.DiffSize(id, idMappings, parent, parentMappings, mountLabel)
	case l.Kind == kindVolume:
		return l.Size, nil
	default:
		return directory.Size(d.storeOf(l).diffDir(id))
	}
}

// DiffGetter returns the files of a layer by the names that they have in its tar stream.
func (d *Driver) DiffGetter(id string) (graphdriver.FileGetCloser, error) {
	l, err := d.readLayer(id)
	if err != nil {
		return nil, err
	}
	var dir *os.File
	if l.Kind == kindVolume {
		dir, err = d.openVolume(l.Volume)
	} else {
		dir, err = os.Open(d.storeOf(l).diffDir(id))
	}
	if err != nil {
		return nil, fmt.Errorf("files of layer %s: %w", id, err)
	}
	return &fileGetter{dir: dir}, nil
}

// fileGetter opens files below a directory.
type fileGetter struct{ dir *os.File }

// Get opens a file by its name in the tar. Symbolic links in the layer lead to files of the layer, never out of it.
func (g *fileGetter) Get(name string) (io.ReadCloser, error) {
	clean := strings.TrimPrefix(filepath.Clean("/"+name), "/")
	fd, err := unix.Openat2(int(g.dir.Fd()), clean, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Close releases the directory.
func (g *fileGetter) Close() error { return g.dir.Close() }
