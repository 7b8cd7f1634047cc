package shim

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/kata"
)

// hostMounts is the mount table of the real shim, which has a mount namespace of its own
// (src/runtime/pkg/containerd-shim-v2/service.go, setupMntNs).
type hostMounts []*mountinfo.Info

// mountsOf reads the mount table of a process; 0 stands for this one.
func mountsOf(pid int) (hostMounts, error) {
	file := "/proc/self/mountinfo"
	if pid > 0 {
		file = fmt.Sprintf("/proc/%d/mountinfo", pid)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("mounts of the real shim: %w", err)
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, fmt.Errorf("mounts of the real shim, %s: %w", file, err)
	}
	return mounts, nil
}

// volume returns where a volume is mounted. It wants what Kata's Go runtime wants: the first mount there is an EROFS one
// of that file, or of a loop device before it (src/runtime/virtcontainers/container.go, createErofsDevices).
func (m hostMounts) volume(file string) (string, error) {
	seen := map[string]bool{}
	for _, i := range m {
		if i.FSType != kata.FSTypeErofs || seen[i.Mountpoint] {
			continue
		}
		seen[i.Mountpoint] = true // of several, the runtime takes the first
		if i.Root == "/" && backingFile(i.Source) == file {
			return i.Mountpoint, nil
		}
	}
	return "", fmt.Errorf("volume %s is not mounted where the real shim sees it, and Kata's Go runtime takes volumes by "+
		"their mounts: is the container store's mount shared (findmnt -o TARGET,PROPAGATION)?", file)
}

// backingFile resolves a loop device to its file.
func backingFile(source string) string {
	n, ok := strings.CutPrefix(source, "/dev/loop")
	if !ok {
		return source
	}
	if _, err := strconv.Atoi(n); err != nil {
		return source
	}
	b, err := os.ReadFile("/sys/block/loop" + n + "/loop/backing_file")
	if err != nil {
		return source
	}
	return strings.TrimSuffix(string(b), "\n")
}

// probe lets package kata find out what Kata makes of a mounted rootfs.
func (m hostMounts) probe() *kata.BlockProbe {
	return &kata.BlockProbe{Device: deviceOf, IsBlockDevice: isBlockDevice, Mounts: m}
}

func deviceOf(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Dev, nil
}

func isBlockDevice(device uint64) (bool, error) {
	name := fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device))
	_, err := os.Stat(path.Join("/sys/dev/block", name))
	if os.IsNotExist(err) {
		return false, nil
	}
	return err == nil, err
}
