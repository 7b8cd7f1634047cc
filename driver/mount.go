package driver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/fileutils"
	"github.com/containers/storage/pkg/idtools"
	"golang.org/x/sys/unix"
)

// Get mounts a layer on top of its ancestors and returns where. A directory layer is writable, unless the options
// say "ro". As often as it is called, so often Put must be.
func (d *Driver) Get(id string, opts graphdriver.MountOpts) (string, error) {
	if err := checkID(id); err != nil {
		return "", err
	}
	merged := d.mergedDir(id)
	for {
		var s *stack
		if !isMountPoint(merged) {
			var err error
			if s, err = d.prepare(id, opts); err != nil {
				return "", fmt.Errorf("mount layer %s: %w", id, err)
			}
		}
		if done, err := d.getPrepared(id, s, opts); err != nil {
			return "", fmt.Errorf("mount layer %s: %w", id, err)
		} else if done {
			return merged, nil
		}
		// It was mounted at first, and is no more.
	}
}

// getPrepared does what there is to do for a Get under the store's lock. Without a stack it can only count a user of
// what is mounted; if nothing is, it has not done its work.
func (d *Driver) getPrepared(id string, s *stack, opts graphdriver.MountOpts) (done bool, err error) {
	d.lock.Lock()
	defer d.lock.Unlock()
	if !exists(d.recordPath(id)) { // it is removed by now, or of an additional image store
		if _, err := d.readLayer(id); err != nil {
			return false, err
		}
	}
	merged := d.mergedDir(id)
	if err := d.makeMergedDir(merged, opts); err != nil {
		return false, err
	}
	if d.refs.Increment(merged) > 1 {
		return true, nil
	}
	if s == nil {
		d.refs.Decrement(merged)
		return false, nil
	}
	if err := d.mountStack(s, opts); err != nil {
		d.refs.Decrement(merged)
		return false, errors.Join(err, unmount(merged), d.releaseMounts())
	}
	return true, nil
}

func (d *Driver) makeMergedDir(merged string, opts graphdriver.MountOpts) error {
	uid, gid, err := idtools.GetRootUIDGID(opts.UidMaps, opts.GidMaps)
	if err != nil {
		return err
	}
	if err := mkdir(merged, 0o700, uid, gid); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// mountStack mounts a stack's first layer above the others, and says in the manifest what it consists of.
func (d *Driver) mountStack(s *stack, opts graphdriver.MountOpts) (err error) {
	top := s.chain[0]
	o := overlay{label: opts.MountLabel, options: opts.Options, volatile: opts.Volatile}
	if s.writable() {
		o.upper, o.work = d.diffDir(top.ID), d.workDir(top.ID)
	}
	if o.lowers, err = d.lowerDirs(s); err != nil {
		return err
	}
	// overlayfs wants at least one lower directory, and two of them if it has no upper (ovl_get_lowerstack,
	// fs/overlayfs/super.c). It is an overlay even for one volume, so that whiteouts in that volume are not seen.
	if len(o.lowers) == 0 || (o.upper == "" && len(o.lowers) == 1) {
		o.lowers = append(o.lowers, d.emptyDir())
	}
	if s.writable() {
		err = writeManifest(s.manifest)
	} else {
		err = removeManifest(d.mergedDir(top.ID))
	}
	if err != nil {
		return err
	}
	maps, shift, err := d.mapsOf(top.ID, opts)
	if err != nil {
		return err
	}
	if shift {
		release, err := d.mapLowers(maps, s, &o)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, release()) }()
	}
	return d.withSlack(top.ID, func() error { return o.mountOn(d.mergedDir(top.ID), d.appendLowers) })
}

// lowerDirs returns the directories of which a stack's overlay consists, the topmost first, and sees to it that what
// belongs there is mounted.
func (d *Driver) lowerDirs(s *stack) ([]string, error) {
	if name := s.image(); name != "" {
		return []string{d.hostMount(name)}, d.mountVolume(name)
	}
	var lowers []string
	for _, l := range withoutCopies(s.below()) {
		lower, err := d.lowerDir(l)
		if err != nil {
			return nil, err
		}
		lowers = append(lowers, lower)
	}
	return lowers, nil
}

// lowerDir returns the directory with a layer's content and sees to it that the content is mounted there.
func (d *Driver) lowerDir(l *layer) (string, error) {
	if l.Kind == kindDirectory {
		return d.storeOf(l).diffDir(l.ID), nil
	}
	return d.hostMount(l.Volume), d.mountVolume(l.Volume)
}

// mountVolume makes a volume's host mount, if it is not there.
func (d *Driver) mountVolume(name string) error {
	dir := d.hostMount(name)
	if isMountPoint(dir) {
		if d.isWanted(dir) {
			return nil
		}
		// Overlays that are on it keep what they need of it.
		if err := unmount(dir); err != nil {
			return err
		}
	}
	if d.attachKept(name, dir) {
		return nil
	}
	if err := makeDir(dir, dirMode); err != nil {
		return err
	}
	mnt, err := d.openHostMount(name)
	if err != nil {
		return err
	}
	defer mnt.Close()
	return attach(mnt, dir)
}

// attachKept mounts a volume again that was mounted before, if that is possible.
func (d *Driver) attachKept(name, dir string) bool {
	mnt := d.kept.take(name)
	if mnt == nil {
		return false
	}
	defer mnt.Close()
	if err := attach(mnt, dir); err != nil {
		log.WithField(fieldVolume, name).WithError(err).Debug("A mount that was kept cannot be used, mounting the volume anew")
		return false
	}
	return true
}

// Put undoes one Get. The last one unmounts the layer, and soon the volumes that no other mounted layer needs.
func (d *Driver) Put(id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	// containers/storage asks this error whether os.IsNotExist, which does not look into wrapped ones.
	if err := fileutils.Lexists(d.layerDir(id)); err != nil {
		return err
	}
	merged := d.mergedDir(id)
	if d.refs.Decrement(merged) > 0 {
		return nil
	}
	if err := unmount(merged); err != nil {
		return fmt.Errorf("layer %s: %w", id, err)
	}
	if err := renewDir(merged); err != nil {
		// On a full disk, for one. The layer is unmounted, which is what matters.
		log.WithField(fieldLayer, id).WithError(err).Warn("The layer's mounts in other mount namespaces may stay")
	}
	return d.releaseSoon()
}

// renewDir replaces an empty directory by a new one, so that mounts on the old one go away in all mount namespaces.
// There is a directory at every moment: containers/storage looks for it.
func renewDir(dir string) error {
	st, err := statRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	fresh := dir + ".new"
	if err := mkdirRoot(fresh, st); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// os.Rename would refuse: it replaces no directories.
	if err := unix.Rename(fresh, dir); err != nil {
		return &os.LinkError{Op: "rename", Old: fresh, New: dir, Err: err}
	}
	return nil
}

// mountChecker tells containers/storage's reference counter what other processes have mounted.
type mountChecker struct{}

// IsMounted implements graphdriver.Checker.
func (mountChecker) IsMounted(path string) bool { return isMountPoint(path) }
