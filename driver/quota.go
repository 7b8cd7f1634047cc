package driver

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containers/storage/drivers/quota"
	"github.com/containers/storage/pkg/directory"
	"github.com/docker/go-units"
)

// A container's upper directory can have a limit where the store's file system has project quotas. containers/storage
// gives a project to a directory, so each limited layer has one in quotas/: diff and work are made in there, which
// gives them its project, and then moved to the layer's directory. overlayfs moves files between the two, so they
// have to be of one project; the rest of the layer's directory is of none, so that a full container can be mounted,
// which writes its manifest. As long as quotas/<id> is there, its project is not given to another layer.

func (s store) quotasDir() string         { return filepath.Join(s.home, "quotas") }
func (s store) quotaDir(id string) string { return filepath.Join(s.quotasDir(), id) }

// parseSize reads a number of bytes: 10G is 10 GiB.
func parseSize(value string) (uint64, error) {
	n, err := units.RAMInBytes(value)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no size; write, for example, 10G or 512M, or 0 for no limit", value)
	}
	return uint64(n), nil
}

func parseInodes(value string) (uint64, error) {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no number of inodes", value)
	}
	return n, nil
}

// limitOf returns the limit of a new layer: the default, or what containers/storage says (podman's --storage-opt).
func (d *Driver) limitOf(storageOpt map[string]string, readWrite bool) (quota.Quota, error) {
	if !readWrite {
		if len(storageOpt) > 0 {
			return quota.Quota{}, fmt.Errorf("storage-opt %s: only containers' layers can have limits",
				strings.Join(slices.Sorted(maps.Keys(storageOpt)), ", "))
		}
		return quota.Quota{}, nil
	}
	limit := d.options.quota
	for key, value := range storageOpt {
		var err error
		switch strings.ToLower(key) {
		case "size":
			limit.Size, err = parseSize(value)
		case "inodes":
			limit.Inodes, err = parseInodes(value)
		default:
			err = errors.New("unknown; there are size and inodes")
		}
		if err != nil {
			return quota.Quota{}, fmt.Errorf("storage-opt %s: %w", key, err)
		}
	}
	return limit, nil
}

// openQuotas prepares for limits if they are the default, or layers have them. The caller holds the store's lock.
func (d *Driver) openQuotas() error {
	if d.options.quota == (quota.Quota{}) {
		if _, err := os.Lstat(d.quotasDir()); err != nil {
			return nil // then there is nothing to be counted
		}
		if _, err := d.quotaControl(); err != nil {
			log.WithError(err).Warn("Containers' layers may have no limits any more")
		}
		return nil
	}
	_, err := d.quotaControl()
	return err
}

// quotaControl returns containers/storage's control of project quotas. It learns anew which projects are in use
// whenever another process may have given one away. The caller holds the store's lock.
func (d *Driver) quotaControl() (*quota.Control, error) {
	control := d.quota.Load()
	if control != nil {
		if _, modified, err := d.lock.ModifiedSince(d.quotaState); err != nil || !modified {
			return control, err
		}
	}
	last, err := d.lock.GetLastWrite()
	if err != nil {
		return nil, err
	}
	if err := makeDir(d.quotasDir(), dirMode); err != nil {
		return nil, err
	}
	control, err = quota.NewControl(d.quotasDir())
	if err != nil {
		return nil, fmt.Errorf("the file system of %s (%s) has no project quotas: mount XFS or ext4 with the option "+
			"prjquota (ext4 needs \"tune2fs -O project -Q prjquota\" first), or set no limits: %w", d.home, d.backingFS, err)
	}
	d.quotaState = last
	d.quota.Store(control)
	return control, nil
}

// newQuota makes the directory in which a new layer's limited directories have to be made.
func (d *Driver) newQuota(id string, limit quota.Quota) (dir string, err error) {
	control, err := d.quotaControl()
	if err != nil {
		return "", err
	}
	dir = d.quotaDir(id)
	if err := os.Mkdir(dir, dirMode); err != nil {
		return "", err
	}
	if err := control.SetQuota(dir, limit); err != nil {
		return "", errors.Join(fmt.Errorf("limit layer %s to %d bytes and %d inodes: %w", id, limit.Size, limit.Inodes, err),
			d.removeQuota(id))
	}
	// Others have to look which projects are taken.
	d.quotaState, err = d.lock.RecordWrite()
	if err != nil {
		return "", errors.Join(err, d.removeQuota(id))
	}
	return dir, nil
}

// quotaSlack is more than overlayfs needs to make a directory.
var quotaSlack = quota.Quota{Size: 1 << 20, Inodes: 64}

// withSlack mounts a layer while its limit is a little higher: overlayfs makes a directory in work/, and an overlay for
// which it cannot is read-only (ovl_get_workdir, fs/overlayfs/super.c), so a full container could not even delete
// something.
func (d *Driver) withSlack(id string, mount func() error) error {
	if _, err := os.Lstat(d.quotaDir(id)); err != nil {
		return mount()
	}
	control, err := d.quotaControl()
	if err != nil {
		log.WithField(fieldLayer, id).WithError(err).Warn("The layer has no limit any more")
		return mount()
	}
	var limit quota.Quota
	if err := control.GetQuota(d.quotaDir(id), &limit); err != nil {
		log.WithField(fieldLayer, id).WithError(err).Warn("The layer may have no limit any more")
		return mount()
	}
	raised := limit
	if limit.Size > 0 {
		raised.Size += quotaSlack.Size
	}
	if limit.Inodes > 0 {
		raised.Inodes += quotaSlack.Inodes
	}
	if err := control.SetQuota(d.quotaDir(id), raised); err != nil {
		return err
	}
	err = mount()
	return errors.Join(err, control.SetQuota(d.quotaDir(id), limit))
}

// removeQuota gives back a layer's project. The layer's files must be gone.
func (d *Driver) removeQuota(id string) error {
	if control := d.quota.Load(); control != nil {
		control.ClearQuota(d.quotaDir(id))
	}
	return removeAll(d.quotaDir(id))
}

// recoverQuotas gives back the projects of layers that are gone.
func (d *Driver) recoverQuotas() error {
	entries, err := os.ReadDir(d.quotasDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || exists(d.recordPath(e.Name())) {
			continue // not a directory: the device node that containers/storage makes for quotactl(2)
		}
		if err := d.removeQuota(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// quotaUsage returns what the file system counts for a layer with a limit; nil: it has none.
func (d *Driver) quotaUsage(id string) *directory.DiskUsage {
	control := d.quota.Load()
	if control == nil {
		return nil
	}
	// Without cgo, or with the build tag exclude_disk_quota, containers/storage has no quotas and not this method.
	counter, ok := any(control).(interface {
		GetDiskUsage(path string, usage *directory.DiskUsage) error
	})
	if !ok {
		return nil
	}
	usage := &directory.DiskUsage{}
	if err := counter.GetDiskUsage(d.quotaDir(id), usage); err != nil {
		return nil
	}
	return usage
}
