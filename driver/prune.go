package driver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	Reader
	dryRun bool
}

// NewPruner returns a pruner of the store at home, <graphroot>/erofs. With dryRun it only finds, and removes nothing.
func NewPruner(home string, dryRun bool) (*Pruner, error) {
	resolved, err := filepath.EvalSymlinks(home) // the kernel tells of mounts by their real paths
	if err != nil {
		return nil, err
	}
	r, err := NewReader(resolved)
	if err != nil {
		return nil, err
	}
	p := &Pruner{Reader: Reader{driver: Driver{store: r.driver.store}}, dryRun: dryRun}
	if err := p.driver.checkWritable(); err != nil {
		return nil, err
	}
	p.driver.lock, err = lockfile.GetLockFile(p.driver.lockPath())
	return p, err
}

// Volumes removes image volumes that belong to no image, volumes that no layer has, and what dead processes have left
// half-made. tops returns the top layers of all images; it is called while nobody changes the driver's store. With idle
// also those image volumes go that no container needs now; the next one that does has it made again.
func (p *Pruner) Volumes(tops func() (map[string]bool, error), idle bool) ([]Leftover, error) {
	p.driver.lock.Lock()
	defer p.driver.lock.Unlock()
	var all []Leftover
	for _, step := range []func() ([]Leftover, error){
		func() ([]Leftover, error) { return p.imageVolumes(tops, idle) }, p.volumes, p.temporary,
	} {
		found, err := step()
		all = append(all, found...)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// imageVolumes takes from layers the image volumes that no image or container needs.
func (p *Pruner) imageVolumes(tops func() (map[string]bool, error), idle bool) (found []Leftover, err error) {
	d := &p.driver
	layers, err := p.Layers()
	if err != nil {
		return nil, fmt.Errorf("nothing is removed while records of layers cannot be read: %w", err)
	}
	images, err := tops()
	if err != nil {
		return nil, err
	}
	mounted, err := d.mounted()
	if err != nil {
		return nil, err
	}
	used, err := d.inUse(mounted, nil)
	if err != nil {
		return nil, err
	}
	parents := map[string]bool{} // of layers that are no volumes: containers'
	for _, l := range layers {
		if l.Volume == "" {
			parents[l.Parent] = true
		}
	}
	for _, l := range layers {
		needed := parents[l.ID] || l.Volume == "" || images[l.ID] && !idle
		if l.ImageVolume == "" || needed || used[l.ImageVolume] && !d.isLayersVolume(l.ImageVolume, layers) {
			continue
		}
		why := "its image is gone, and the layer that has it is part of other images"
		if images[l.ID] {
			why = "no container of its image is there"
		}
		o, err := p.leftover(LeftoverImageVolume, d.volumePath(l.ImageVolume), 2, why)
		if err != nil {
			return found, err
		}
		found = append(found, o)
		if p.dryRun {
			continue
		}
		if err := d.releaseImage(l.ID); err != nil {
			return found, err
		}
	}
	return found, nil
}

// isLayersVolume says whether an image volume is also the volume of a layer, which then keeps it.
func (d *Driver) isLayersVolume(name string, layers []StoredLayer) bool {
	return slices.ContainsFunc(layers, func(l StoredLayer) bool { return l.Volume == name })
}

// leftover describes a volume, of which removing one link gives back its space if it has so many.
func (p *Pruner) leftover(kind, path string, links uint64, why string) (Leftover, error) {
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
func (p *Pruner) volumes() (found []Leftover, err error) {
	names, err := p.Reader.Volumes()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		used, err := p.driver.volumeUsed(name)
		if err != nil {
			return found, err
		}
		if used || !isVolumeName(name) {
			continue
		}
		o, err := p.leftover(LeftoverVolume, p.Path(name), 1, "no layer has it")
		if err != nil {
			return found, err
		}
		found = append(found, o)
		if p.dryRun {
			continue
		}
		if err := p.driver.dropVolume(name); err != nil {
			return found, err
		}
	}
	return found, nil
}

// temporary finds the directories in tmp/ whose owners are dead, and clears them away.
func (p *Pruner) temporary() (found []Leftover, err error) {
	names, err := namesIn(p.driver.tmpDir())
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !isTmpName(name) {
			continue
		}
		path := filepath.Join(p.driver.tmpDir(), name)
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
	return found, p.driver.clearTmp()
}

// RemoveLayers removes layers that containers/storage does not know, and whatever only they need. The caller makes sure
// that it goes on not knowing them, by its lock of layers.
func (p *Pruner) RemoveLayers(ids []string) (found []Leftover, err error) {
	for _, id := range ids {
		o := Leftover{Kind: LeftoverLayer, Path: p.driver.layerDir(id), Why: "containers/storage does not know it"}
		if o.Bytes, err = TreeUsage(o.Path); err != nil {
			return found, err
		}
		found = append(found, o)
		if p.dryRun {
			continue
		}
		if err := p.driver.Remove(id); err != nil {
			return found, err
		}
	}
	return found, nil
}
