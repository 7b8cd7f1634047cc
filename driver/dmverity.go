package driver

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/containerd/go-dmverity/pkg/dm"
	graphdriver "github.com/containers/storage/drivers"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// With erofs.host_verity=on, host mounts are mounts of dm-verity devices, each over a loop device over the volume: what
// a container on the host reads has been checked against the volume's root hash. A device is told to go away with its
// last user (DM_DEFERRED_REMOVE) as soon as it is open, like its loop device, so that unmounting is all it takes, and a
// crash leaves one only if it comes within the milliseconds before. Those, Init removes.

// devicePrefix and a volume's name are the name of its device. Stores that have the same volume share the device:
// what is read from it is the same by the root hash.
const devicePrefix = "crio-erofs-"

// deviceTries is how often a device is opened or made that others remove at the same time.
const deviceTries = 100

// errGone says that a device has gone away, or is about to come.
var errGone = errors.New("device-mapper device went away")

// mountVerified mounts a volume through dm-verity, attached nowhere.
func mountVerified(v *volume.ManifestVolume) (*os.File, error) {
	if v.Verity == nil {
		return nil, fmt.Errorf("volume %s has no hash tree, and erofs.host_verity=on lets none be mounted without: remove "+
			"the images that use it and pull them again with erofs.verity=on", v.Path)
	}
	control, err := dm.Open()
	if err != nil {
		return nil, fmt.Errorf("device-mapper is not available: %w (modprobe dm-mod)", err)
	}
	defer control.Close()
	for range deviceTries {
		var mnt *os.File
		if mnt, err = tryVerified(control, v); !errors.Is(err, errGone) {
			return mnt, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, err
}

func tryVerified(control *dm.Control, v *volume.ManifestVolume) (*os.File, error) {
	name := devicePrefix + nameOf(v)
	device, err := findDevice(control, name, v)
	if errors.Is(err, unix.ENXIO) {
		device, err = makeDevice(control, name, v)
	}
	if err != nil {
		return nil, err
	}
	// The mount takes over as the device's user.
	defer device.Close()
	if err := removeLater(name); err != nil {
		return nil, err
	}
	return mountSource(v.Path, device.Name())
}

// findDevice opens the volume's device. The error matches ENXIO if there is none.
func findDevice(control *dm.Control, name string, v *volume.ManifestVolume) (*os.File, error) {
	status, err := control.DeviceStatus(name)
	if err != nil {
		return nil, err
	}
	if !status.ActivePresent {
		return nil, fmt.Errorf("%w: %s has no table; if it stays, remove it with \"dmsetup remove %s\"", errGone, name, name)
	}
	table, err := control.TableStatus(name, true)
	if errors.Is(err, unix.ENXIO) {
		return nil, fmt.Errorf("%w: %s", errGone, name)
	}
	if err != nil {
		return nil, err
	}
	want, err := verityTable(v, "")
	if err != nil {
		return nil, err
	}
	// All but the block devices has to be equal.
	have := strings.Fields(table)
	if expected := strings.Fields(want); len(have) != len(expected) || !slices.Equal(have[3:], expected[3:]) {
		return nil, fmt.Errorf("there is a device %s with another table, %q: it is not of this driver; remove it", name,
			table)
	}
	return openDevice(status.Dev)
}

// makeDevice makes the volume's device and opens it. The caller holds the store's lock.
func makeDevice(control *dm.Control, name string, v *volume.ManifestVolume) (_ *os.File, err error) {
	loop, err := openLoop(v.Path)
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", v.Path, err)
	}
	defer loop.Close() // the table holds it
	dev, err := control.CreateDevice(name)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%w: %w", errGone, err) // another process, which works on another store
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if errors.Is(err, unix.ENXIO) {
			err = fmt.Errorf("%w: %w", errGone, err) // to the Init of another store
		} else if err != nil {
			err = errors.Join(err, control.RemoveDevice(name))
		}
	}()
	params, err := verityTable(v, loop.Name())
	if err != nil {
		return nil, err
	}
	length := v.Verity.DataBlocks * uint64(v.Verity.DataBlockSize) / 512
	if err := control.LoadTable(name, []dm.Target{{Length: length, Type: "verity", Params: params}}); err != nil {
		return nil, fmt.Errorf("%w (modprobe dm-verity)", err)
	}
	if err := control.SuspendDevice(name, false); err != nil { // resumes it
		return nil, err
	}
	return openDevice(dev)
}

// verityTable returns the parameters of a dm-verity target (the kernel's
// Documentation/admin-guide/device-mapper/verity.rst).
func verityTable(v *volume.ManifestVolume, device string) (string, error) {
	digest, err := hex.DecodeString(v.Verity.RootHash)
	if err != nil {
		return "", fmt.Errorf("root hash of %s: %w", v.Path, err)
	}
	if device == "" {
		device = "none"
	}
	return dm.BuildTargetParams(dm.OpenArgs{
		Version: uint32(v.Verity.HashType), DataDevice: device, HashDevice: device,
		DataBlockSize: v.Verity.DataBlockSize, HashBlockSize: v.Verity.HashBlockSize, DataBlocks: v.Verity.DataBlocks,
		HashName: v.Verity.Algorithm, RootDigest: digest, HashStartBytes: v.Verity.TreeOffset,
	})
}

// openDevice opens a device-mapper device by the name that the kernel itself gives it in devtmpfs, without udev.
func openDevice(dev uint64) (*os.File, error) {
	f, err := os.Open("/dev/dm-" + strconv.FormatUint(uint64(unix.Minor(dev)), 10))
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) || errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", errGone, err)
	}
	return f, err
}

// removeLater has the kernel remove a device when its last user closes it. go-dmverity has no flags for that.
func removeLater(name string) error {
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	request := unix.DmIoctl{Version: [3]uint32{dm.DMVersionMajor, dm.DMVersionMinor, dm.DMVersionPatch}}
	request.Data_size = uint32(unsafe.Sizeof(request))
	request.Flags = unix.DM_DEFERRED_REMOVE
	copy(request.Name[:], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), unix.DM_DEV_REMOVE, uintptr(unsafe.Pointer(&request)))
	if errno != 0 && errno != unix.ENXIO {
		return fmt.Errorf("remove device %s with its last user: %w", name, errno)
	}
	return nil
}

// recoverDevices removes the devices that a crash has left between their making and their use. The kernel spares those
// in use, until they are not.
func (d *Driver) recoverDevices() error {
	names, err := filepath.Glob("/sys/block/dm-*/dm/name")
	if err != nil {
		return err
	}
	for _, path := range names {
		b, err := os.ReadFile(path)
		name := strings.TrimSpace(string(b))
		if err != nil || !strings.HasPrefix(name, devicePrefix) {
			continue
		}
		if err := removeLater(name); err != nil {
			log.WithField("device", name).WithError(err).Warn("A device-mapper device that nobody needs may stay")
		}
	}
	return nil
}

// probeVerity makes sure that volumes can be mounted through dm-verity, if they are to be, with this one.
func (d *Driver) probeVerity(path string) error {
	if !d.options.hostVerity {
		return nil
	}
	v := &volume.ManifestVolume{Path: path}
	if err := readJSON(filepath.Join(filepath.Dir(path), descriptionFile), &v.Description); err != nil {
		return err
	}
	if v.Verity == nil {
		return nil // an old one, which cannot be mounted; each Get will tell
	}
	mnt, err := mountVerified(v)
	if err != nil {
		return fmt.Errorf("erofs.host_verity=on: %w", errors.Join(err, graphdriver.ErrPrerequisites))
	}
	return mnt.Close()
}

// throughMapper says whether what is mounted on a directory is on a device-mapper device.
func throughMapper(dir string) bool {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return false
	}
	return exists(fmt.Sprintf("/sys/dev/block/%d:%d/dm", unix.Major(st.Dev), unix.Minor(st.Dev)))
}

// isWanted says whether what is mounted on a directory is a volume as containers are to have it. It is not if the mount
// is of the time before erofs.host_verity=on.
func (d *Driver) isWanted(dir string) bool { return !d.options.hostVerity || throughMapper(dir) }

// openHostMount mounts a volume of the store as containers are to have it, attached nowhere.
func (d *Driver) openHostMount(name string) (*os.File, error) {
	if !d.options.hostVerity {
		home := d.homeOf(name)
		mnt, err := d.openVolumeFile(home.volumePath(name))
		if err != nil && home != d.store && d.options.mount == MountAuto && d.mount == MountFile {
			// Init has tried what our store's file system can do, and this may be another one.
			return mountByLoop(home.volumePath(name))
		}
		return mnt, err
	}
	v, err := d.describeVolume(name)
	if err != nil {
		return nil, err
	}
	return mountVerified(v)
}
