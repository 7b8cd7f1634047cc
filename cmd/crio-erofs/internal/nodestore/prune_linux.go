package nodestore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/lockfile"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
)

// Pruner removes what nothing needs from a node's store.
type Pruner struct {
	*driver.Pruner
	roots *Roots
}

// NewPruner returns a pruner of a node's container storage.
func NewPruner(roots *Roots, dryRun bool) (*Pruner, error) {
	images := roots.ImageStore
	if images != "" {
		images = filepath.Join(images, driver.Name)
	}
	p, err := driver.NewPruner(filepath.Join(roots.GraphRoot, driver.Name), images, dryRun)
	if err != nil {
		return nil, noStore(err)
	}
	return &Pruner{Pruner: p, roots: roots}, nil
}

// recordPaths returns where containers/storage has a record, once in the graph root and once where images are if that is
// elsewhere: it uses both (storage v1.58, store.go, load; layers.go, newLayerStore).
func (p *Pruner) recordPaths(kind, name string) []string {
	var paths []string
	for _, root := range p.roots.writable() {
		paths = append(paths, filepath.Join(root, driver.Name+"-"+kind, name))
	}
	return paths
}

// Prune removes all leftovers, see driver.Pruner, and returns what they were, also if there is an error.
func (p *Pruner) Prune(ctx context.Context, idle bool) ([]driver.Leftover, error) {
	// Layers first: volumes and image volumes may be theirs.
	all, err := p.layers(ctx)
	if err != nil {
		return all, err
	}
	more, err := p.Volumes(p.tops, idle)
	return append(all, more...), err
}

// tops returns the top layers of all images.
func (p *Pruner) tops() (map[string]bool, error) {
	var images []storage.Image
	for _, path := range p.recordPaths("images", "images.json") {
		if err := readRecords(path, &images); err != nil {
			return nil, err
		}
	}
	tops := map[string]bool{}
	for _, img := range images {
		tops[img.TopLayer] = true
		for _, id := range img.MappedTopLayers {
			tops[id] = true
		}
	}
	return tops, nil
}

// layers removes layers of the driver that containers/storage does not know, and that no layer stands on which it knows.
func (p *Pruner) layers(ctx context.Context) ([]driver.Leftover, error) {
	// Most often there are none, and no need to wait for the lock, which is held during a pull.
	ids, err := p.unknownLayers()
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	for _, path := range p.recordPaths("layers", "layers.lock") { // in this order containers/storage takes them, too
		lock, err := lockfile.GetLockFile(path)
		if err != nil {
			return nil, err
		}
		if err := lockUnlessDone(ctx, lock); err != nil {
			return nil, err
		}
		defer lock.Unlock()
	}
	if ids, err = p.unknownLayers(); err != nil {
		return nil, err
	}
	return p.RemoveLayers(ids)
}

// lockUnlessDone takes a lock that others may have for minutes.
func lockUnlessDone(ctx context.Context, lock *lockfile.LockFile) error {
	for {
		err := lock.TryLock()
		if err == nil || err.Error() != unix.EAGAIN.Error() { // some of TryLock's errors only have the text
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until containers/storage's lock of layers is free: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (p *Pruner) unknownLayers() (ids []string, err error) {
	layers, err := p.Layers() // before containers/storage's records: it records a layer before it makes it
	if err != nil {
		return nil, err
	}
	known, err := p.knownLayers()
	if err != nil || known == nil {
		return nil, err
	}
	parents := make(map[string]string, len(layers))
	for _, l := range layers {
		parents[l.ID] = l.Parent
	}
	needed := map[string]bool{}
	for id := range known {
		for ; id != "" && !needed[id]; id = parents[id] {
			needed[id] = true
		}
	}
	for _, l := range layers {
		if !needed[l.ID] {
			ids = append(ids, l.ID)
		}
	}
	return ids, nil
}

// volatileLayers is where layers of containers are whose loss does not matter.
const volatileLayers = "volatile-layers.json"

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// knownLayers returns the layers in containers/storage's records (storage v1.58, layers.go, newLayerStore); nil if there
// are no records, of which nothing can be concluded.
func (p *Pruner) knownLayers() (map[string]bool, error) {
	stable := p.recordPaths("layers", "layers.json")
	if !slices.ContainsFunc(stable, exists) {
		return nil, nil
	}
	var layers []storage.Layer
	for _, path := range append(stable, filepath.Join(p.roots.GraphRoot, driver.Name+"-layers", volatileLayers),
		filepath.Join(p.roots.RunRoot, driver.Name+"-layers", volatileLayers)) {
		if err := readRecords(path, &layers); err != nil {
			return nil, fmt.Errorf("records of layers: %w", err)
		}
	}
	known := map[string]bool{}
	for i := range layers {
		known[layers[i].ID] = true
	}
	return known, nil
}
