package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/erofs"
)

// loopTries is how often a free loop device may be taken from under us by others before we give up.
const loopTries = 100

// openVolumeFile mounts a volume file, attached nowhere.
func (d *Driver) openVolumeFile(path string) (*os.File, error) {
	if d.mount == MountLoop {
		return mountByLoop(path)
	}
	return mountFile(path)
}

// openVolume returns a mount of a volume of the store, attached nowhere. It shares the page cache of the host mount,
// where there is one.
func (d *Driver) openVolume(name string) (*os.File, error) {
	if err := d.verifyNamed(context.Background(), name); err != nil { // the host mount may be of another process
		return nil, err
	}
	if dir := d.hostMount(name); d.isWanted(dir) {
		if mnt := cloneMount(dir); mnt != nil {
			return mnt, nil
		}
	}
	return d.openHostMount(name)
}

// mountFile mounts a volume without a block device. Linux 6.12 and later can (commit fb176750266a, "erofs: add
// file-backed mount support"), if the file system that holds the file can read by folios.
func mountFile(path string) (*os.File, error) {
	source := path
	if len(source) > maxStringParam {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		source = "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	}
	return mountSource(path, source)
}

// mountByLoop mounts a volume by way of a loop device, which goes away with the mount.
func mountByLoop(path string) (*os.File, error) {
	loop, err := openLoop(path)
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", path, err)
	}
	// By then the mount holds the device, or nobody needs it any more.
	defer loop.Close()
	return mountSource(path, loop.Name())
}

func mountSource(path, source string) (*os.File, error) {
	mnt, err := newMount("erofs", []param{{"source", source}, {key: "ro"}}, volumeAttrs)
	if err != nil {
		return nil, fmt.Errorf("mount volume %s: %w", path, err)
	}
	return mnt, nil
}

// openLoop sets up a read-only loop device that is freed when the last user closes it.
func openLoop(path string) (*os.File, error) {
	backing, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("loop devices are not available: %w (modprobe loop)", err)
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(backing.Fd())}
	// Direct I/O keeps the data out of the backing file's page cache, where it would be a second time. The kernel goes
	// without where the file system has none.
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
	if config.Size, err = sectorSize(backing); err != nil {
		return nil, err
	}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], path)
	for range loopTries {
		// Also makes a new device if all are taken.
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		loop, err := os.Open("/dev/loop" + strconv.Itoa(n))
		if err != nil {
			return nil, fmt.Errorf("loop device: %w", err)
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		_ = loop.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("set up %s: %w", loop.Name(), err)
		}
	}
	return nil, fmt.Errorf("no free loop device: others took %d of them first", loopTries)
}

// sectorSize returns the size of sectors for the loop device over a volume: 0, which lets the kernel choose, or that of
// the volume's blocks if they are smaller than sectors may be. With direct I/O the kernel's choice is the backing disk's
// (loop_default_blocksize, drivers/block/loop.c), and EROFS mounts no blocks smaller than sectors. Where the disk's are
// larger, the kernel goes without direct I/O.
func sectorSize(volume *os.File) (uint32, error) {
	const blockBits = 1024 + 12 // blkszbits of struct erofs_super_block, fs/erofs/erofs_fs.h
	bits := make([]byte, 1)
	if _, err := volume.ReadAt(bits, blockBits); err != nil {
		return 0, fmt.Errorf("superblock of %s: %w", volume.Name(), err)
	}
	if 1<<bits[0] != erofs.TarfsBlockSize {
		return 0, nil
	}
	return erofs.TarfsBlockSize, nil
}
