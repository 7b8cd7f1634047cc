package agent

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// containerBase holds a directory per container (kata-containers src/agent/src/rpc.rs, CONTAINER_BASE).
const containerBase = "/run/kata-containers"

// rootfs is what the storages of a container became.
type rootfs struct {
	base       string // containerBase/<container id>
	mountPoint string // of the overlay
	bundle     string // base/rootfs, where the overlay is bound to
	lowers     []string
	verity     []string // names of dm devices, "" for a layer without
	mounts     []string // to undo, in the order of mounting
}

// layer is a lower storage and where it goes.
type layer struct {
	agentapi.Storage
	dir    string
	verity string
}

// mountStorages does what multi_layer_erofs.rs's handle_multi_layer_erofs_group does, then setup_bundle of rpc.rs.
// After an error nothing stays mounted. If there are diffIDs, the storages must be volumes of layout tarfs with these,
// topmost first.
func mountStorages(cid string, storages []agentapi.Storage, diffIDs []string) (*rootfs, error) {
	if cid == "" || strings.ContainsAny(cid, "/\\\x00") || strings.Contains(cid, "..") {
		return nil, fmt.Errorf("container ID %q contains invalid characters", cid)
	}
	if len(storages) > 0 && storages[len(storages)-1].Driver == agentapi.DriverOverlay {
		return mountVolumes(cid, storages, diffIDs)
	}
	if diffIDs != nil {
		return nil, errors.New("the guest's init data allow volumes of layout tarfs only")
	}
	if len(storages) == 1 && storages[0].Driver == agentapi.DriverGuestPull {
		return pullRootfs(cid, &storages[0])
	}
	upper, lowers, err := groupStorages(storages)
	if err != nil {
		return nil, err
	}
	r := &rootfs{base: filepath.Join(containerBase, cid), mountPoint: lowers[0].MountPoint}
	if !filepath.IsAbs(r.mountPoint) || strings.Contains(r.mountPoint, "..") {
		return nil, fmt.Errorf("mount point %q is not a plain absolute path", r.mountPoint)
	}
	if err = r.mountUpper(upper); err == nil {
		err = r.mountLowers(lowers)
	}
	if err == nil {
		err = r.mountOverlay()
	}
	if err != nil {
		return nil, errors.Join(err, r.unmount())
	}
	return r, nil
}

// groupStorages checks the group and returns its upper, if it has one, and its lowers, the topmost first: the lower
// partition number wins. The options that ask for directories (OptMkdirPath) need no answer: they name the upper and
// work directories, which mountOverlay makes in any case.
func groupStorages(storages []agentapi.Storage) (upper *agentapi.Storage, lowers []agentapi.Storage, err error) {
	for _, s := range storages {
		if !slices.Contains(s.Options, agentapi.OptMultiLayer) {
			return nil, nil, fmt.Errorf("storage %s of type %s is not part of a multi-layer rootfs, the only kind that the "+
				"stand-in mounts", s.Source, s.FSType)
		}
		switch isUpper := slices.Contains(s.Options, agentapi.OptOverlayUpper); {
		case isUpper && s.FSType != "ext4":
			return nil, nil, fmt.Errorf("multi-layer erofs explicit upper layer must be ext4, got '%s'", s.FSType)
		case isUpper && upper != nil:
			return nil, nil, errors.New("multi-layer erofs currently supports exactly one explicit ext4 upper layer")
		case isUpper:
			upper = &s
		case s.FSType != "erofs":
			return nil, nil, fmt.Errorf("storage %s: type %s for a lower layer, want erofs", s.Source, s.FSType)
		default:
			lowers = append(lowers, s)
		}
	}
	if len(lowers) == 0 {
		return nil, nil, errors.New("multi-layer erofs missing erofs lower layer storage")
	}
	slices.SortStableFunc(lowers, func(a, b agentapi.Storage) int {
		return cmp.Compare(partitionNumber(a), partitionNumber(b))
	})
	return upper, lowers, nil
}

// mountUpper mounts the disk for what the container writes, if it has one.
func (r *rootfs) mountUpper(s *agentapi.Storage) error {
	if s == nil {
		return nil
	}
	disk, err := scsiDisk(s.Source)
	if err != nil {
		return err
	}
	dir := r.upper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	flags, _, data := parseOptions(s.Options)
	if err := unix.Mount(disk, dir, s.FSType, flags, data); err != nil {
		return fmt.Errorf("failed to mount layer %s on %s: %w", disk, dir, err)
	}
	r.mounts = append(r.mounts, dir)
	return nil
}

// upper is where the upper disk is mounted, or the upper directory in the guest's memory is.
func (r *rootfs) upper() string { return filepath.Join(r.base, "multi-layer", "upper") }

func partitionNumber(s agentapi.Storage) int {
	for _, opt := range s.Options {
		if v, ok := strings.CutPrefix(opt, agentapi.OptPartitionNumber); ok {
			if n, err := strconv.Atoi(v); err == nil {
				return n
			}
		}
	}
	return int(^uint32(0))
}

// mountLowers mounts all layers at the same time, as Kata's agent does.
func (r *rootfs) mountLowers(storages []agentapi.Storage) error {
	disks := map[string]string{}
	layers := make([]*layer, len(storages))
	for i, s := range storages {
		if s.Driver != agentapi.DriverSCSI {
			return fmt.Errorf("unsupported driver type '%s' for multi-layer erofs", s.Driver)
		}
		if disks[s.Source] == "" {
			disk, err := scsiDisk(s.Source)
			if err != nil {
				return err
			}
			disks[s.Source] = disk
		}
		layers[i] = &layer{Storage: s, dir: filepath.Join(r.base, "multi-layer", fmt.Sprintf("lower-%d", i))}
	}
	errs := make([]error, len(layers))
	var wg sync.WaitGroup
	for i, l := range layers {
		wg.Go(func() { errs[i] = l.mount(disks[l.Source]) })
	}
	wg.Wait()
	for i, l := range layers {
		if errs[i] == nil {
			r.mounts = append(r.mounts, l.dir)
			r.lowers = append(r.lowers, l.dir)
			r.verity = append(r.verity, l.verity)
		}
	}
	return errors.Join(errs...)
}

// mount mounts a layer from a disk or one of its partitions (multi_layer_erofs.rs, wait_and_mount_layer).
func (l *layer) mount(disk string) error {
	dev := disk
	var err error
	if slices.Contains(l.Options, agentapi.OptGPTPartitioned) {
		if dev, err = partition(disk, strconv.Itoa(partitionNumber(l.Storage))); err != nil {
			return err
		}
	} else if slices.Contains(l.Options, agentapi.OptVerityEnabled) {
		return errors.New("dm-verity requires GPT-partitioned storage with partition number")
	}
	part := dev
	if slices.Contains(l.Options, agentapi.OptVerityEnabled) {
		v, err := parseVerityOptions(l.Options)
		if err == nil {
			l.verity, dev, err = openVerity(part, v)
		}
		if err != nil {
			return fmt.Errorf("failed to create dm-verity device over %s: %w", part, err)
		}
	}
	if err = os.MkdirAll(l.dir, 0o755); err == nil {
		err = unix.Mount(dev, l.dir, l.FSType, unix.MS_RDONLY, "ro")
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("failed to mount layer %s (%s) on %s: %w", dev, part, l.dir, err)
	if l.verity != "" {
		err = errors.Join(fmt.Errorf("%w%s", err, verityHint(err)), closeVerity(l.verity))
	}
	return err
}

// verityHint explains the error that dm-verity's refusal becomes: opening the device reads nothing, so a wrong root
// hash is seen by the first read, which is the mount's.
func verityHint(err error) string {
	if errors.Is(err, unix.EIO) {
		return ": dm-verity found the volume not to match its root hash"
	}
	return ""
}

// mountOverlay puts an upper directory, of the guest's memory unless there is a disk for it, over the lowers (handle_multi_layer_erofs_group).
func (r *rootfs) mountOverlay() error {
	upperdir, workdir := filepath.Join(r.upper(), "upper"), filepath.Join(r.upper(), "work")
	r.bundle = filepath.Join(r.base, "rootfs")
	for _, dir := range []string{upperdir, workdir, r.mountPoint, r.bundle} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	data := fmt.Sprintf("upperdir=%s,lowerdir=%s,workdir=%s", upperdir, strings.Join(r.lowers, ":"), workdir)
	if err := r.mountOverlayData(data); err != nil {
		return fmt.Errorf("failed to mount overlay of %d layers on %s: %w", len(r.lowers), r.mountPoint, err)
	}
	r.mounts = append(r.mounts, r.mountPoint)
	if err := unix.Mount(r.mountPoint, r.bundle, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s on %s: %w", r.mountPoint, r.bundle, err)
	}
	r.mounts = append(r.mounts, r.bundle)
	return nil
}

// mountOverlayData passes the options relative to the layers' directory if they would not fit mount(2)'s page
// otherwise (kata-containers src/libs/kata-sys-util/src/mount.rs, compact_lowerdir_option, shortens the lowers so).
func (r *rootfs) mountOverlayData(data string) error {
	if len(data) < os.Getpagesize() {
		return unix.Mount("overlay", r.mountPoint, "overlay", 0, data)
	}
	dir := filepath.Join(r.base, "multi-layer")
	short := strings.ReplaceAll(data, dir+"/", "")
	if len(short) >= os.Getpagesize() {
		return fmt.Errorf("the options take %d bytes, mount(2) %d: %w", len(short), os.Getpagesize(), unix.E2BIG)
	}
	return inDirectory(dir, func() error { return unix.Mount("overlay", r.mountPoint, "overlay", 0, short) })
}

// unmount undoes everything; it goes on after an error and returns all.
func (r *rootfs) unmount() error {
	var errs []error
	for _, dir := range slices.Backward(r.mounts) {
		if err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", dir, err))
		}
	}
	for _, name := range slices.Backward(r.verity) {
		if name != "" {
			errs = append(errs, closeVerity(name))
		}
	}
	volumes := filepath.Join(agentapi.VolumesDir, filepath.Base(r.base))
	return errors.Join(append(errs, os.RemoveAll(r.base), os.RemoveAll(filepath.Dir(r.mountPoint)),
		os.RemoveAll(volumes))...)
}
