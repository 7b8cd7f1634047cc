package driver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/drivers/quota"
	"github.com/containers/storage/pkg/idtools"
	"github.com/containers/storage/pkg/lockfile"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// Name is the driver's name in storage.conf and in CRI-O's storage_driver.
const Name = "erofs"

func init() {
	graphdriver.MustRegister(Name, Init)
}

// Driver implements containers/storage's graph driver.
type Driver struct {
	store
	others   []store // additional image stores, and the other half of a split one
	images   *Driver // of the store for images, if they have one of their own
	recalled store   // the store for images, if the driver is not told of it
	options  options
	verified *verified
	records  records
	failures failures
	kept     kept
	freeing  freeing
	aside    background
	lock     *lockfile.LockFile
	refs     *graphdriver.RefCounter

	lingering *time.Timer        // until host mounts are looked at that may not be needed; guarded by lock
	unswept   bool               // a removed layer may have left something, see sweepLater; guarded by lock
	naive     graphdriver.Driver // Diff and its kin between any two layers

	// What the kernel can do here, found out by Init.
	mount        MountMode // MountFile or MountLoop
	appendLowers bool      // overlayfs takes lower directories one by one
	noImage      string    // why there are no image volumes of several layers; empty: there are
	noShifting   string    // why ids cannot be mapped at the time of mounting; empty: they can
	backingFS    string

	quota      atomic.Pointer[quota.Control] // of project quotas, once they are used
	quotaState lockfile.LastWrite            // of the store's lock when the control was up to date
}

// The driver can also hand out files by name, so that containers/storage puts a layer's tar together byte by byte.
var _ graphdriver.DiffGetterDriver = (*Driver)(nil)

// Init opens the store at home, makes it if it is not there, and clears away what processes that died have left.
// Several processes may use one store at the same time; each calls Init.
func Init(home string, opts graphdriver.Options) (graphdriver.Driver, error) {
	d, err := open(home, opts)
	if err != nil {
		return nil, fmt.Errorf("storage driver %s: %w", Name, err)
	}
	return d, nil
}

func open(home string, opts graphdriver.Options) (graphdriver.Driver, error) {
	parsed, err := parseOptions(opts.DriverOptions)
	if err != nil {
		return nil, err
	}
	parsed.applyDecryption()
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("must run as root to mount EROFS: %w", graphdriver.ErrPrerequisites)
	}
	if err := parsed.checkPrograms(); err != nil {
		return nil, err
	}
	d := newDriver(parsed)
	if err := d.openStore(home); err != nil {
		return nil, err
	}
	if opts.ImageStore == "" {
		d.recallImages()
		return d, d.start()
	}
	whole, err := openSplit(d, opts.ImageStore)
	if err != nil {
		return nil, fmt.Errorf("image store %s: %w", opts.ImageStore, err)
	}
	return whole, d.start()
}

func newDriver(o options) *Driver {
	d := &Driver{
		options: o, verified: &verified{files: map[volume.FileID]*checkedFile{}}, refs: graphdriver.NewRefCounter(mountChecker{}),
	}
	d.useNaive(d)
	return d
}

// useNaive lets containers/storage's ways for any driver use this one.
func (d *Driver) useNaive(whole graphdriver.ProtoDriver) {
	d.naive = graphdriver.NewNaiveDiffDriver(whole, graphdriver.NewNaiveLayerIDMapUpdater(whole))
}

// start makes an open store ready for use: finds out what the kernel can do, and clears away what others have left.
func (d *Driver) start() error {
	if err := d.openImageStores(); err != nil {
		return err
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	if err := d.checkVersion(); err != nil {
		return err
	}
	if err := d.probe(); err != nil {
		return err
	}
	if err := d.recover(); err != nil {
		return err
	}
	return d.openQuotas()
}

// openStore makes the store's directories and opens its lock.
func (d *Driver) openStore(home string) error {
	if err := os.MkdirAll(home, 0o711); err != nil {
		return err
	}
	// The kernel tells of mounts by their real paths, and a manifest is valid for the path in it only.
	resolved, err := filepath.EvalSymlinks(home)
	if err != nil {
		return err
	}
	if d.home, err = filepath.Abs(resolved); err != nil {
		return err
	}
	if d.backingFS, err = fsName(d.home); err != nil {
		return err
	}
	if err := d.checkForeign(); err != nil {
		return err
	}
	if err := d.checkWritable(); err != nil {
		return err
	}
	if d.lock, err = lockfile.GetLockFile(d.lockPath()); err != nil {
		return err
	}
	return d.makeDirs()
}

// String returns the driver's name.
func (d *Driver) String() string { return Name }

// Cleanup unmounts everything that the driver has mounted. Containers lose their root file systems by it:
// containers/storage calls it when none are left.
func (d *Driver) Cleanup() error {
	defer d.freeing.wait() // or the file system could not be unmounted at once
	d.aside.stop()
	d.lock.Lock()
	defer d.lock.Unlock()
	var errs []error
	mounted, err := d.mounted()
	errs = append(errs, err)
	for _, path := range mounted {
		if id := d.mountedLayer(path); id != "" {
			errs = append(errs, unmount(path))
		}
	}
	return errors.Join(append(errs, d.releaseMounts(), d.kept.dropAll())...)
}

// UpdateLayerIDMap gives the files of a new layer the owners that they have under another mapping.
func (d *Driver) UpdateLayerIDMap(id string, toContainer, toHost *idtools.IDMappings, mountLabel string) error {
	return d.naive.UpdateLayerIDMap(id, toContainer, toHost, mountLabel)
}
