package driver

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/directory"
	"github.com/containers/storage/pkg/system"
)

// maxChain is overlayfs's limit of lower layers (OVL_MAX_STACK, fs/overlayfs/params.h).
const maxChain = 500

// kind says how a layer's content is kept.
type kind string

const (
	kindDirectory kind = "directory"
	kindVolume    kind = "volume"
)

// rootAttrs are the attributes of a layer's root directory. The root of what is mounted has those of the topmost layer,
// so a new layer starts with its parent's.
type rootAttrs struct {
	Mode uint32 `json:"mode"` // permissions and set-id bits, as in st_mode
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
}

// defaultRoot is the root directory of a layer without parent, as containers/storage's other drivers have it.
var defaultRoot = rootAttrs{Mode: 0o555}

// layer is what layer.json says of a layer.
type layer struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Parent  string `json:"parent,omitempty"`
	Kind    kind   `json:"kind"`

	// Depth is how many layers the chain has. In records of the first release it is 0: unknown.
	Depth int `json:"depth,omitempty"`

	// ReadWrite is set for layers that CreateReadWrite made; these never become volumes.
	ReadWrite bool `json:"read_write,omitempty"`

	home string // of the store that it is in; empty: ours

	// The rest is for volume layers.
	Volume   string     `json:"volume,omitempty"`    // name of the directory in volumes/
	RootHash string     `json:"root_hash,omitempty"` // in full; none: the volume has no hash tree
	DiffID   string     `json:"diff_id,omitempty"`   // of this layer's tar; others may give the same volume
	Size     int64      `json:"size,omitempty"`      // sum of the files' sizes, as DiffSize returns it
	Inodes   int64      `json:"inodes,omitempty"`
	Root     *rootAttrs `json:"root,omitempty"`
}

// checkID refuses names that would not be one directory below layers/.
func checkID(id string) error {
	if id == "" || id == "." || id == ".." || filepath.Base(id) != id {
		return fmt.Errorf("layer id %q cannot be the name of a directory", id)
	}
	return nil
}

// readLayer reads a layer's record. The error matches graphdriver.ErrLayerUnknown if there is no such layer.
func (d *Driver) readLayer(id string) (*layer, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	l, err := d.readRecord(d.store, id)
	if errors.Is(err, graphdriver.ErrLayerUnknown) && len(d.others) > 0 {
		return d.readForeign(id)
	}
	return l, err
}

// readRecord reads a layer's record in a store.
func (d *Driver) readRecord(s store, id string) (*layer, error) {
	l, err := remembered[layer](&d.records, s.recordPath(id))
	if err != nil && isEmptyFile(s.recordPath(id)) {
		err = fmt.Errorf("%s is empty: %w", s.recordPath(id), fs.ErrNotExist) // half-made, see makeLayer
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("layer %s: %w", id, errors.Join(graphdriver.ErrLayerUnknown, err))
	}
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w; the record is damaged, remove the layer and pull its image again", id, err)
	}
	if !isKnown(l.Version) || l.ID != id || (l.Kind != kindDirectory && l.Kind != kindVolume) {
		return nil, fmt.Errorf("layer %s: %s is of version %d, layer %q, kind %q; want %s and this layer's id: remove the "+
			"layer and pull its image again", id, s.recordPath(id), l.Version, l.ID, l.Kind, knownVersions())
	}
	if s != d.store {
		l.home = s.home
	}
	return l, nil
}

// writeLayer replaces a layer's record, durably.
func (d *Driver) writeLayer(l *layer) error {
	return d.writeRecord(l, durable)
}

// writeRecord writes a layer's record. The caller holds the store's lock.
func (d *Driver) writeRecord(l *layer, how durability) error {
	path := d.recordPath(l.ID)
	if err := writeJSON(path, l, 0o600, how); err != nil {
		return err
	}
	d.records.rememberOwn(path, *l)
	return nil
}

// errTooDeep is the error for a layer on top of more layers than can be mounted.
var errTooDeep = fmt.Errorf("it is on top of %d layers, more than overlayfs can stack: build the image with fewer "+
	"layers", maxChain)

// depth returns how many layers the layer's chain has.
func (d *Driver) depth(l *layer) (int, error) {
	if l.Depth > 0 {
		return l.Depth, nil
	}
	chain, err := d.chain(l.ID)
	return len(chain), err
}

// rootOf returns the attributes of a layer's root directory.
func (d *Driver) rootOf(l *layer) (rootAttrs, error) {
	if l.Kind == kindVolume && l.Root != nil {
		return *l.Root, nil
	}
	return statRoot(d.storeOf(l).diffDir(l.ID))
}

func statRoot(dir string) (rootAttrs, error) {
	st, err := system.Stat(dir)
	if err != nil {
		return rootAttrs{}, err
	}
	return rootAttrs{Mode: st.Mode() &^ syscall.S_IFMT, UID: int(st.UID()), GID: int(st.GID())}, nil
}

// mkdirRoot makes a directory with exactly these attributes, whatever the umask and the directory above it.
func mkdirRoot(dir string, r rootAttrs) error {
	// os.Mkdir and os.Chmod take the set-id and sticky bits in another form.
	if err := syscall.Mkdir(dir, r.Mode); err != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	// Most often that is all: to change what need not be changed is a transaction of the file system's all the same.
	have, err := statRoot(dir)
	if err != nil || have == r {
		return err
	}
	if err := os.Chown(dir, r.UID, r.GID); err != nil {
		return err
	}
	// After chown, which may clear set-id bits.
	if err := syscall.Chmod(dir, r.Mode); err != nil {
		return &fs.PathError{Op: "chmod", Path: dir, Err: err}
	}
	return nil
}

// isEmpty says whether a directory has no entries.
func isEmpty(dir string) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, err := f.Readdirnames(1)
	if len(names) > 0 {
		return false, nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return true, nil
}

// Exists says whether there is a layer with this id.
func (d *Driver) Exists(id string) bool {
	if checkID(id) != nil {
		return false
	}
	if exists(d.recordPath(id)) {
		return true
	}
	_, err := d.readForeign(id)
	return err == nil
}

// ListLayers returns the ids of all layers, children before their parents.
func (d *Driver) ListLayers() ([]string, error) {
	entries, err := os.ReadDir(d.layersDir())
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(entries))
	for _, e := range entries {
		// What is foreign must not be listed: containers/storage has layers removed that it does not know.
		if !d.isForeign(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	d.sortByDepth(ids)
	return ids, nil
}

// sortByDepth puts children before their parents. A layer with a damaged record is the last: it has to be in lists, or it
// could never be removed.
func (d *Driver) sortByDepth(ids []string) {
	depths := make(map[string]int, len(ids))
	for _, id := range ids {
		if chain, err := d.chain(id); err == nil {
			depths[id] = len(chain)
		}
	}
	slices.SortStableFunc(ids, func(a, b string) int { return depths[b] - depths[a] })
}

// ReadWriteDiskUsage returns what the layer itself holds, without its parents. What a container writes in a VM is in
// its writable layer's file, whose blocks on the disk count.
func (d *Driver) ReadWriteDiskUsage(id string) (*directory.DiskUsage, error) {
	l, err := d.readLayer(id)
	if err != nil {
		return nil, err
	}
	if l.Kind == kindVolume {
		return &directory.DiskUsage{Size: l.Size, InodeCount: l.Inodes}, nil
	}
	usage := d.quotaUsage(id)
	if usage == nil {
		if usage, err = directory.Usage(d.storeOf(l).diffDir(id)); err != nil {
			return nil, err
		}
	}
	inVM, err := d.rwUsage(id)
	usage.Size += inVM
	return usage, err
}
