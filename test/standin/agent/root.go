package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setUpRoot makes the container's file systems in the mount namespace that the process was born into, and enters them.
func setUpRoot(spec *specs.Spec) error {
	root := spec.Root.Path
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount(root, root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind root %s: %w", root, err)
	}
	for _, m := range spec.Mounts {
		if err := mountInto(root, m); err != nil {
			return fmt.Errorf("mount %s (type %q, source %q) for the container: %w", m.Destination, m.Type, m.Source, err)
		}
	}
	if err := makeDevices(root, spec.Linux); err != nil {
		return err
	}
	if spec.Hostname != "" {
		if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
			return fmt.Errorf("set hostname %q: %w", spec.Hostname, err)
		}
	}
	// The working directory may be missing (kata-containers src/agent/rustjail/src/mount.rs, finish_rootfs).
	if cwd, err := securejoin.SecureJoin(root, spec.Process.Cwd); err == nil {
		if err := os.MkdirAll(cwd, 0o755); err != nil {
			return fmt.Errorf("working directory: %w", err)
		}
	}
	if err := pivot(root); err != nil {
		return err
	}
	return restrict(spec)
}

// pivot makes root the root of this mount namespace and drops the guest's own.
func pivot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	// With both arguments ".", the old root is stacked on the new one (pivot_root(2), notes).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root %s: %w", root, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("drop the guest's root: %w", err)
	}
	return unix.Chdir("/")
}

// restrict hides and protects paths, and makes the root read-only if asked for.
func restrict(spec *specs.Spec) error {
	if spec.Linux != nil {
		for _, path := range spec.Linux.ReadonlyPaths {
			if err := readonlyPath(path); err != nil {
				return fmt.Errorf("make %s read-only: %w", path, err)
			}
		}
		for _, path := range spec.Linux.MaskedPaths {
			if err := maskPath(path); err != nil {
				return fmt.Errorf("mask %s: %w", path, err)
			}
		}
		if err := setSysctls(spec.Linux.Sysctl); err != nil {
			return err
		}
	}
	if spec.Root.Readonly {
		if err := remount("/", unix.MS_RDONLY); err != nil {
			return fmt.Errorf("make the root read-only: %w", err)
		}
	}
	return nil
}

func readonlyPath(path string) error {
	err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, "")
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	return remount(path, unix.MS_RDONLY)
}

func maskPath(path string) error {
	err := unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
	if errors.Is(err, unix.ENOTDIR) {
		return unix.Mount("tmpfs", path, "tmpfs", unix.MS_RDONLY, "")
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func setSysctls(sysctls map[string]string) error {
	for key, value := range sysctls {
		path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return fmt.Errorf("sysctl %s=%s: %w", key, value, err)
		}
	}
	return nil
}

// remount adds flags to a mount and keeps those it has, which a user without privileges could not take away.
func remount(path string, flags uintptr) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return err
	}
	const kept = unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC | unix.ST_NOATIME | unix.ST_NODIRATIME | unix.ST_RELATIME
	return unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|flags|uintptr(st.Flags)&kept, "")
}

// defaultDevices are those that the OCI runtime specification wants in every container (config-linux.md).
var defaultDevices = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}, {Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7}, {Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9}, {Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

func makeDevices(root string, linux *specs.Linux) error {
	devices := defaultDevices
	if linux != nil {
		devices = append(devices[:len(devices):len(devices)], linux.Devices...)
	}
	for _, d := range devices {
		if err := makeDevice(root, d); err != nil {
			return fmt.Errorf("make device %s: %w", d.Path, err)
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
		"ptmx": "pts/ptmx",
	} {
		err := os.Symlink(target, filepath.Join(root, "dev", name))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

func makeDevice(root string, d specs.LinuxDevice) error {
	types := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}
	kind, ok := types[d.Type]
	if !ok {
		return fmt.Errorf("unknown type %q", d.Type)
	}
	path, err := securejoin.SecureJoin(root, d.Path)
	if err != nil {
		return err
	}
	if err = os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	mode := os.FileMode(0o666)
	if d.FileMode != nil {
		mode = *d.FileMode & os.ModePerm
	}
	err = unix.Mknod(path, kind, int(unix.Mkdev(uint32(d.Major), uint32(d.Minor))))
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.Chmod(path, mode); err != nil { // mknod's mode is subject to the umask
		return err
	}
	if d.UID != nil && d.GID != nil {
		return os.Chown(path, int(*d.UID), int(*d.GID))
	}
	return nil
}
