package driver

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	graphdriver "github.com/containers/storage/drivers"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// probe finds out what the kernel can do with volumes in this place, by doing it. It writes to the disk only if the
// store has no such volume that can be mounted: the driver must start on a full disk, where images are to be removed.
func (d *Driver) probe() error {
	for _, fstype := range []string{"erofs", "overlay"} {
		if err := haveFS(fstype); err != nil {
			return err
		}
	}
	if err := d.probeOverlay(); err != nil {
		return err
	}
	// If it fails, the reason may be this very volume.
	if path := d.wholeVolume(); path != "" && d.probeMount(path) == nil {
		return d.probeFeatures(path)
	}
	path, done, err := d.newVolume()
	if err != nil {
		return fmt.Errorf("probe for EROFS mounts: %w", err)
	}
	err = d.probeMount(path)
	if err != nil && d.options.layout == volume.LayoutTarfs {
		err = fmt.Errorf("%w; volumes of erofs.layout=%s have blocks of 512 bytes, which needs Linux 6.4 or later: on an "+
			"older kernel use erofs.layout=%s", err, volume.LayoutTarfs, volume.LayoutAligned)
	}
	if err != nil {
		return errors.Join(err, done())
	}
	return errors.Join(d.probeFeatures(path), done())
}

// probeFeatures finds out what else can be done with volumes that can be mounted, of which this is one.
func (d *Driver) probeFeatures(path string) error {
	return errors.Join(d.probeImage(path), d.probeShifting(path), d.probeVerity(path))
}

// haveFS asks the kernel for a file system type, which also loads its module.
func haveFS(fstype string) error {
	fd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("this kernel has no %s file system: run \"modprobe %s\" and, to have it after each start, put the "+
			"name in a file in /etc/modules-load.d: %w", fstype, fstype, graphdriver.ErrPrerequisites)
	}
	if err != nil {
		return fmt.Errorf("open file system type %s: %w (fsopen(2) needs Linux 5.2 and CAP_SYS_ADMIN)", fstype,
			errors.Join(err, graphdriver.ErrPrerequisites))
	}
	return unix.Close(fd)
}

// probeOverlay finds out whether overlayfs takes lower directories one by one, and refuses file systems that cannot
// hold an upper directory.
func (d *Driver) probeOverlay() error {
	switch magic, err := graphdriver.GetFSMagic(d.home); {
	case err != nil:
		return err
	case magic == graphdriver.FsMagicOverlay, magic == graphdriver.FsMagicAufs, magic == graphdriver.FsMagicEcryptfs:
		return fmt.Errorf("%s is on %s, which cannot hold writable layers: put graphroot on another file system: %w",
			d.home, d.backingFS, graphdriver.ErrIncompatibleFS)
	}
	var paths pathSet
	defer paths.close()
	mnt, err := newMount("overlay", []param{
		{"source", "overlay"},
		{"lowerdir+", paths.short(d.emptyDir())},
		{"lowerdir+", paths.short(d.mountsDir())},
	}, 0)
	if err != nil {
		// Before Linux 6.7. If the reason is another, each Get will tell it.
		log.WithError(err).Debug("Using mount(2) for overlays")
		return paths.err
	}
	d.appendLowers = true
	return mnt.Close()
}

// wholeVolume returns the file of a volume of the store that is as large as it should be, and of the layout that new
// ones get; "" if there is none.
func (d *Driver) wholeVolume() string {
	names, _ := namesIn(d.volumesDir())
	for _, name := range names {
		if v, err := d.describeVolume(name); err == nil && v.Layout == d.options.layout {
			return v.Path
		}
	}
	return ""
}

// newVolume makes a volume to probe with.
func (d *Driver) newVolume() (path string, done func() error, err error) {
	t, err := d.newTmp()
	if err != nil {
		return "", nil, err
	}
	dir := filepath.Join(t.path, "volume")
	if err := os.Mkdir(dir, dirMode); err != nil {
		return "", nil, errors.Join(err, t.remove())
	}
	// 1024 zero bytes are a tar without entries.
	if _, _, err := d.buildVolume(dir, bytes.NewReader(make([]byte, 1024))); err != nil {
		return "", nil, errors.Join(err, t.remove())
	}
	return filepath.Join(dir, volumeFile), t.remove, nil
}

// probeMount chooses between file-backed mounts and loop devices.
func (d *Driver) probeMount(path string) error {
	var fileErr error
	if d.options.mount != MountLoop {
		var mnt *os.File
		if mnt, fileErr = mountFile(path); fileErr == nil {
			d.mount = MountFile
			return mnt.Close()
		}
		if d.options.mount == MountFile {
			return fmt.Errorf("erofs.mount=file: %w; the kernel mounts volumes without a loop device since Linux 6.12, and "+
				"not on every file system (here: %s): use erofs.mount=auto", errors.Join(fileErr, graphdriver.ErrPrerequisites),
				d.backingFS)
		}
		log.WithError(fileErr).Debug("Using loop devices")
	}
	mnt, loopErr := mountByLoop(path)
	if loopErr != nil {
		return fmt.Errorf("cannot mount EROFS volumes: %w", errors.Join(fileErr, loopErr, graphdriver.ErrPrerequisites))
	}
	d.mount = MountLoop
	return mnt.Close()
}

// fsName returns the name of the file system that holds a directory.
func fsName(dir string) (string, error) {
	magic, err := graphdriver.GetFSMagic(dir)
	if err != nil {
		return "", err
	}
	if name, ok := graphdriver.FsNames[magic]; ok {
		return name, nil
	}
	return fmt.Sprintf("type %#x", uint32(magic)), nil
}
