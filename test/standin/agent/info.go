package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/go-dmverity/pkg/dm"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// GuestInfo reports what the guest has mounted, what its device mapper says and the end of its kernel's log.
func (a *Agent) GuestInfo(_ context.Context, r *agentapi.GuestInfoRequest) (*agentapi.GuestInfo, error) {
	kernel, err := kernelRelease()
	if err != nil {
		return nil, err
	}
	info := &agentapi.GuestInfo{Kernel: kernel}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return nil, err
	}
	info.Mounts = strings.Split(strings.TrimSpace(string(mounts)), "\n")
	if info.DM, err = dmDevices(); err != nil {
		return nil, err
	}
	if info.KernelLog, err = kernelLog(r.KernelLog); err != nil {
		return nil, err
	}
	for _, c := range a.sorted() {
		info.Containers = append(info.Containers, c.info())
	}
	return info, nil
}

func (c *container) info() agentapi.ContainerInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := agentapi.ContainerInfo{ID: c.id}
	if c.rootfs != nil {
		info.MountPoint, info.Lowers, info.Verity = c.rootfs.mountPoint, c.rootfs.lowers, c.rootfs.verity
	}
	return info
}

// dmDevices asks the kernel, not the agent's memory.
func dmDevices() ([]agentapi.DMDevice, error) {
	names, err := filepath.Glob("/sys/block/dm-*/dm/name")
	if err != nil || len(names) == 0 {
		return nil, err
	}
	control, err := dm.Open()
	if err != nil {
		return nil, err
	}
	defer control.Close()
	var devices []agentapi.DMDevice
	for _, path := range names {
		d, err := dmDevice(control, path)
		if err != nil {
			return nil, err
		}
		devices = append(devices, *d)
	}
	return devices, nil
}

func dmDevice(control *dm.Control, namePath string) (*agentapi.DMDevice, error) {
	name, err := os.ReadFile(namePath)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(filepath.Dir(namePath))
	d := &agentapi.DMDevice{Name: strings.TrimSpace(string(name)), Device: filepath.Base(dir)}
	// The second argument, called inactive there, is DM_STATUS_TABLE_FLAG: the table instead of the status.
	if d.Table, err = control.TableStatus(d.Name, true); err != nil {
		return nil, err
	}
	if d.Status, err = control.TableStatus(d.Name, false); err != nil {
		return nil, err
	}
	ro, err := os.ReadFile(filepath.Join(dir, "ro"))
	d.ReadOnly = strings.TrimSpace(string(ro)) == "1"
	return d, err
}

// kernelLog returns the last n lines of the kernel's log (linux Documentation/ABI/testing/dev-kmsg).
func kernelLog(n int) ([]string, error) {
	if n <= 0 {
		return nil, nil
	}
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/kmsg: %w", err)
	}
	defer unix.Close(fd)
	var lines []string
	record := make([]byte, 8192) // one read returns one record; 8192 is the kernel's bound
	for {
		size, err := unix.Read(fd, record)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return lines, nil
		case errors.Is(err, unix.EPIPE): // the record was overwritten meanwhile
			continue
		case err != nil:
			return nil, fmt.Errorf("/dev/kmsg: %w", err)
		}
		lines = append(lines, logLine(string(record[:size])))
		if len(lines) > n {
			lines = lines[1:]
		}
	}
}

// logLine turns "priority,sequence,microseconds,flags;text\n key=value..." into what dmesg(1) prints.
func logLine(record string) string {
	prefix, text, _ := strings.Cut(record, ";")
	text, _, _ = strings.Cut(text, "\n")
	fields := strings.Split(prefix, ",")
	if len(fields) < 3 {
		return text
	}
	usec, err := strconv.ParseUint(fields[2], 10, 64)
	if err != nil {
		return text
	}
	return fmt.Sprintf("[%5d.%06d] %s", usec/1e6, usec%1e6, text)
}
