package driver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/containers/storage/pkg/lockfile"
	"golang.org/x/sys/unix"
)

// Kinds of leftovers.
const (
	LeftoverImageVolume = "image volume"
	LeftoverVolume      = "volume"
	LeftoverTemporary   = "temporary directory"
	LeftoverLayer       = "layer"
)

// Leftover is something in a store that nothing needs.
type Leftover struct {
	Kind  string `json:"kind"`
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"` // what removing it gives back
	Why   string `json:"why"`
}

// Pruner removes from a store what nothing needs, also while a CRI-O uses it.
type Pruner struct {
	stores []*Reader // one, or that of containers and that of images
	dryRun bool
	remove func(id string) error
}

// NewPruner returns a pruner of the store at home, <graphroot>/erofs, and of that at images, <imagestore>/erofs, if images
// have a store of their own; else it is empty. With dryRun it only finds, and removes nothing.
func NewPruner(home, images string, dryRun bool) (*Pruner, error) {
	r, err := openPruned(home)
	if err != nil {
		return nil, err
	}
	p := &Pruner{stores: []*Reader{r}, dryRun: dryRun, remove: r.driver.Remove}
	if images == "" {
		return p, nil
	}
	other, err := openPruned(images)
	if err != nil {
		return nil, err
	}
	if other.driver.home == r.driver.home {
		return nil, fmt.Errorf("the store for images, %s, is the graph root's", images)
	}
	p.stores, p.remove = append(p.stores, other), join(r.driver, other.driver).Remove
	return p, nil
}

// openPruned opens a store in which something may be removed.
func openPruned(home string) (*Reader, error) {
	resolved, err := filepath.EvalSymlinks(home) // the kernel tells of mounts by their real paths
	if err != nil {
		return nil, err
	}
	r, err := NewReader(resolved)
	if err != nil {
		return nil, err
	}
	if err := r.driver.checkWritable(); err != nil {
		return nil, err
	}
	r.driver.lock, err = lockfile.GetLockFile(r.driver.lockPath())
	return r, err
}

// Layers returns the layers of the store, or of both, see Reader.Layers.
func (p *Pruner) Layers() (all []StoredLayer, err error) {
	for _, r := range p.stores {
		layers, unread := r.Layers()
		all, err = append(all, layers...), errors.Join(err, unread)
	}
	return all, err
}

// Volumes removes image volumes that belong to no image, volumes that no layer has, and what dead processes have left
// half-made. tops returns the top layers of all images; it is called while nobody changes the driver's store. With idle
// also those image volumes go that no container needs now; the next one that does has it made again.
func (p *Pruner) Volumes(tops func() (map[string]bool, error), idle bool) (all []Leftover, err error) {
	for _, r := range p.stores { // the driver itself never holds the locks of both
		r.driver.lock.Lock()
		defer r.driver.lock.Unlock()
	}
	needs, err := p.needs(tops, idle)
	if err != nil {
		return nil, err
	}
	for _, r := range p.stores {
		for _, step := range []func(*Reader) ([]Leftover, error){
			func(r *Reader) ([]Leftover, error) { return p.imageVolumes(r, needs) }, p.volumes, p.temporary,
		} {
			found, err := step(r)
			all = append(all, found...)
			if err != nil {
				return all, errors.Join(err, p.dropMountPoints(all))
			}
		}
	}
	return all, p.dropMountPoints(all)
}

// dropMountPoints removes the places at which one store has had the volumes mounted that are gone from the other.
func (p *Pruner) dropMountPoints(found []Leftover) error {
	if p.dryRun || len(p.stores) == 1 {
		return nil
	}
	var names []string
	for _, l := range found {
		if l.Kind == LeftoverImageVolume || l.Kind == LeftoverVolume {
			names = append(names, filepath.Base(filepath.Dir(l.Path)))
		}
	}
	var errs []error
	for _, r := range p.stores {
		errs = append(errs, r.driver.dropMountPointsLocked(names, nil))
	}
	return errors.Join(errs...)
}

// leftover describes a volume, of which removing one link gives back its space if it has so many.
func leftover(kind, path string, links uint64, why string) (Leftover, error) {
	o := Leftover{Kind: kind, Path: path, Why: why}
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return o, nil
	}
	if err != nil {
		return o, err
	}
	if uint64(fi.Sys().(*syscall.Stat_t).Nlink) > links {
		return o, nil
	}
	u, err := FileUsage(path)
	o.Bytes = u.Private()
	return o, err
}

// volumes drops volumes that no layer links to.
func (p *Pruner) volumes(r *Reader) (found []Leftover, err error) {
	names, err := r.Volumes()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		used, err := r.driver.volumeUsed(name)
		if err != nil {
			return found, err
		}
		if used || !isVolumeName(name) {
			continue
		}
		o, err := leftover(LeftoverVolume, r.Path(name), 1, "no layer has it")
		if err != nil {
			return found, err
		}
		found = append(found, o)
		if p.dryRun {
			continue
		}
		if err := r.driver.dropVolume(name); err != nil {
			return found, err
		}
	}
	return found, nil
}

// temporary finds the directories in tmp/ whose owners are dead, and clears them away.
func (p *Pruner) temporary(r *Reader) (found []Leftover, err error) {
	names, err := namesIn(r.driver.tmpDir())
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !isTmpName(name) {
			continue
		}
		path := filepath.Join(r.driver.tmpDir(), name)
		lock, err := lockDir(path, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK) {
			continue // its owner has just removed it, or is alive
		}
		if err != nil {
			return found, err
		}
		o := Leftover{Kind: LeftoverTemporary, Path: path, Why: "the process that made it is gone"}
		o.Bytes, err = TreeUsage(path)
		if err = errors.Join(err, lock.Close()); err != nil {
			return found, err
		}
		found = append(found, o)
	}
	if p.dryRun || len(found) == 0 {
		return found, nil
	}
	return found, r.driver.clearTmp()
}

// RemoveLayers removes layers that containers/storage does not know, and whatever only they need. The caller makes sure
// that it goes on not knowing them, by its lock of layers.
func (p *Pruner) RemoveLayers(ids []string) (found []Leftover, err error) {
	for _, id := range ids {
		o := Leftover{Kind: LeftoverLayer, Path: p.layerDir(id), Why: "containers/storage does not know it"}
		if o.Bytes, err = TreeUsage(o.Path); err != nil {
			return found, err
		}
		found = append(found, o)
		if p.dryRun {
			continue
		}
		if err := p.remove(id); err != nil {
			return found, err
		}
	}
	return found, nil
}

// layerDir returns the directory of a layer.
func (p *Pruner) layerDir(id string) string {
	for _, r := range p.stores[1:] {
		if dir := r.driver.layerDir(id); exists(dir) {
			return dir
		}
	}
	return p.stores[0].driver.layerDir(id)
}
