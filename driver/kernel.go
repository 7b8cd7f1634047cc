package driver

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// maxStringParam is the longest string that fsconfig(2) takes, without the final NUL (strndup_user in
// fs/fsopen.c, "256").
const maxStringParam = 255

// volumeAttrs are the mount attributes of volumes. Nobody runs a program or opens a device by way of a host mount;
// containers do it by way of their overlay, to which these do not apply.
const volumeAttrs = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID

// param is a parameter for fsconfig(2); one without a value is a flag.
type param struct{ key, value string }

// newMount makes a mount that is attached nowhere: it lives until the file is closed, or attach puts it somewhere.
func newMount(fstype string, params []param, attrs int) (_ *os.File, err error) {
	fsfd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen %s: %w", fstype, err)
	}
	defer unix.Close(fsfd)
	for _, p := range params {
		if p.value == "" {
			err = unix.FsconfigSetFlag(fsfd, p.key)
		} else {
			err = unix.FsconfigSetString(fsfd, p.key, p.value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: parameter %s=%s: %w%s", fstype, p.key, p.value, err, kernelLog(fsfd))
		}
	}
	if err = unix.FsconfigCreate(fsfd); err != nil {
		return nil, fmt.Errorf("mount %s: %w%s", fstype, err, kernelLog(fsfd))
	}
	mfd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return nil, fmt.Errorf("fsmount %s: %w%s", fstype, err, kernelLog(fsfd))
	}
	return os.NewFile(uintptr(mfd), fstype), nil
}

// kernelLog returns what the kernel has to say to a failed mount (see "Message retrieval" in the kernel's
// Documentation/filesystems/mount_api.rst).
func kernelLog(fsfd int) string {
	var lines []string
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fsfd, buf)
		if err != nil || n <= 0 {
			break
		}
		lines = append(lines, strings.TrimSpace(string(buf[:n])))
	}
	if len(lines) == 0 {
		return ""
	}
	return " (kernel: " + strings.Join(lines, "; ") + ")"
}

// attach puts a mount on a directory.
func attach(mnt *os.File, dir string) error {
	if err := unix.MoveMount(int(mnt.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("put mount on %s: %w", dir, err)
	}
	return nil
}

// isMountPoint says whether something is mounted on dir.
func isMountPoint(dir string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	if errors.Is(err, unix.ENOENT) {
		return false
	}
	if err == nil && st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	}
	// Before Linux 5.8 (commit 80340fe3605c, "statx: add mount_root").
	mounted, err := mountinfo.Mounted(dir)
	return err == nil && mounted
}

// cloneMount returns a copy of the mount on dir, attached nowhere, or nil if no EROFS is mounted there.
func cloneMount(dir string) *os.File {
	if !isMountPoint(dir) {
		return nil
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), dir)
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || st.Type != unix.EROFS_SUPER_MAGIC_V1 {
		_ = f.Close()
		return nil
	}
	return f
}

// fdPath is a path to the directory that f is. The dot makes lstat(2) see the directory and not the link in /proc.
func fdPath(f *os.File) string {
	return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) + "/."
}

// unmount takes away whatever is mounted on dir; that nothing is, or dir is not there, is no error. Open files keep
// what they need of it.
func unmount(dir string) error {
	for {
		err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
}
