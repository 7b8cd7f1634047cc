package driver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/idmap"
	"github.com/containers/storage/pkg/idtools"
	"golang.org/x/sys/unix"
)

// Containers with a user namespace (pods with hostUsers: false) share the volumes of their image with all others: the
// ids of the lower directories' files are mapped at the time of mounting. What is written goes to the upper directory
// with the ids of the host. That is what containers/storage expects of a driver that supports "shifting"; from one that
// does not, it demands a copy of the image's top layer for each mapping, which is a directory and no volume.

// allIDs maps every id to itself. The kernel takes no empty map.
var allIDs = []idtools.IDMap{{ContainerID: 0, HostID: 0, Size: 1<<32 - 1}}

// idMaps is how a container's ids appear on the host.
type idMaps struct {
	*idtools.IDMappings
}

// mapsOf returns the mapping that a mount with these options has to have; false: none. A layer that was created for a
// mapping has it in its files already, and so have the copies that it stands on. It is told by its directory, which
// belongs to the mapped root (see makeLayer).
func (d *Driver) mapsOf(id string, opts graphdriver.MountOpts) (idMaps, bool, error) {
	if d.noShifting != "" || opts.DisableShifting || (len(opts.UidMaps) == 0 && len(opts.GidMaps) == 0) {
		return idMaps{}, false, nil
	}
	dir, err := statRoot(d.layerDir(id))
	if err != nil || dir.UID != 0 {
		return idMaps{}, false, err
	}
	uids, gids := opts.UidMaps, opts.GidMaps
	if len(uids) == 0 {
		uids = allIDs
	}
	if len(gids) == 0 {
		gids = allIDs
	}
	return idMaps{idtools.NewIDMappingsFromMaps(uids, gids)}, true, nil
}

// openTo lets the mapped root through to a layer's mount point, and makes the root directory of what is mounted there
// belong to whom it belongs in the image. The layer's directory remains root's: with a directory of its own, the mapped
// root could exchange the manifest.
func (d *Driver) openTo(m idMaps, id string) error {
	root := m.RootPair()
	if err := os.Chown(d.layerDir(id), 0, root.GID); err != nil {
		return err
	}
	if err := os.Chmod(d.layerDir(id), 0o710); err != nil {
		return err
	}
	upper, err := statRoot(d.diffDir(id))
	if err != nil {
		return err
	}
	if _, _, err := m.ToContainer(idtools.IDPair{UID: upper.UID, GID: upper.GID}); err == nil {
		return nil // since an earlier mount
	}
	owner, err := m.ToHost(idtools.IDPair{UID: upper.UID, GID: upper.GID})
	if err != nil {
		owner = root
	}
	if err := os.Chown(d.diffDir(id), owner.UID, owner.GID); err != nil {
		return err
	}
	// chown clears set-id bits.
	return syscall.Chmod(d.diffDir(id), upper.Mode)
}

// mapLowers replaces an overlay's lower directories by ones with mapped ids, until they are released.
func (d *Driver) mapLowers(m idMaps, s *stack, o *overlay) (release func() error, err error) {
	if err := d.openTo(m, s.chain[0].ID); err != nil {
		return nil, err
	}
	lowers := o.lowers
	if s.chain[0].ReadWrite && !s.writable() {
		lowers = lowers[1:] // what was written to it has the host's ids
	}
	set, err := d.mapDirs(m, lowers)
	if err != nil {
		return nil, err
	}
	copy(lowers, set.dirs)
	return set.release, nil
}

// mapped is a set of ID-mapped mounts, which an overlay needs only until it is mounted.
type mapped struct {
	tmp  *tmp
	dirs []string
}

// mapDirs mounts directories once more, with ids mapped. The caller holds the store's lock.
func (d *Driver) mapDirs(m idMaps, dirs []string) (_ *mapped, err error) {
	pid, end, err := usernsProcess(m.UIDs(), m.GIDs())
	if err != nil {
		return nil, fmt.Errorf("user namespace for ID-mapped mounts: %w", err)
	}
	defer end()
	t, err := d.newTmp()
	if err != nil {
		return nil, err
	}
	set := &mapped{tmp: t}
	for i, dir := range dirs {
		target := filepath.Join(t.path, strconv.Itoa(i))
		if err := idmap.CreateIDMappedMount(dir, target, pid); err != nil {
			return nil, errors.Join(fmt.Errorf("map the ids of %s: %w", dir, err), set.release())
		}
		set.dirs = append(set.dirs, target)
		// It may be the directory of a layer: whoever clears tmp/ away must not be able to clear that away.
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(unix.AT_FDCWD, target, 0, attr); err != nil {
			err = &os.PathError{Op: "mount_setattr", Path: target, Err: err}
			return nil, errors.Join(err, set.release())
		}
	}
	return set, nil
}

// unmountIn takes away what is mounted on the entries of a directory: a crash may have left ID-mapped mounts.
func unmountIn(dir string) error {
	names, err := namesIn(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := unmount(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// release takes the mounts away again.
func (s *mapped) release() error {
	var errs []error
	for _, dir := range s.dirs {
		errs = append(errs, unmount(dir))
	}
	if err := errors.Join(errs...); err != nil {
		return errors.Join(err, s.tmp.lock.Close()) // the next Init has another try
	}
	return s.tmp.remove()
}

// probeShifting finds out whether ids can be mapped at the time of mounting, and if not, why. It is tried with a
// volume, and with the file system that holds directory layers. That overlayfs takes such mounts as lower directories
// need not be tried: it does since Linux 5.19 (commit bc70682a497c, "ovl: support idmapped layers"), and EROFS
// learned of mappings later (commit 6c459b78d485, "erofs: support idmapped mounts").
func (d *Driver) probeShifting(path string) error {
	volume, err := d.openVolumeFile(path)
	if err != nil {
		return err
	}
	defer volume.Close()
	dir, err := cloneDir(d.emptyDir())
	if err != nil {
		d.noShifting = err.Error()
		return nil
	}
	defer dir.Close()
	if err := tryMap(volume, dir); err != nil {
		d.noShifting = err.Error()
		log.WithError(err).Info("Ids cannot be mapped at the time of mounting. For containers with user namespaces, copies of " +
			"image layers are made, which cannot be given to VMs as volumes")
	}
	return nil
}

func cloneDir(dir string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// tryMap maps the ids of mounts that are attached nowhere.
func tryMap(mounts ...*os.File) error {
	maps := []idtools.IDMap{{ContainerID: 0, HostID: 1, Size: 1}}
	pid, end, err := usernsProcess(maps, maps)
	if err != nil {
		return fmt.Errorf("user namespace: %w", err)
	}
	defer end()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
	for _, mnt := range mounts {
		if err := unix.MountSetattr(int(mnt.Fd()), "", unix.AT_EMPTY_PATH, attr); err != nil {
			var st unix.Statfs_t
			_ = unix.Fstatfs(int(mnt.Fd()), &st)
			name := graphdriver.FsNames[graphdriver.FsMagic(st.Type)]
			return fmt.Errorf("mount_setattr(MOUNT_ATTR_IDMAP) on %s: %w", name, err)
		}
	}
	return nil
}

// SupportsShifting says whether the driver maps ids at the time of mounting.
func (d *Driver) SupportsShifting() bool { return d.noShifting == "" }
