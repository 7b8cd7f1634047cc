package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// earlyMounts are what the agent needs before anything else. The container's upper directories are on /run, which
// takes at most half of the guest's memory, as under Kata.
var earlyMounts = []struct{ fstype, target, data string }{
	{"devtmpfs", "/dev", "mode=0755"},
	{"proc", "/proc", ""},
	{"sysfs", "/sys", ""},
	{"tmpfs", "/run", "mode=0755"},
	{"devpts", "/dev/pts", "mode=0620,ptmxmode=0666,gid=5"},
	{"tmpfs", "/dev/shm", "mode=1777"},
	{"mqueue", "/dev/mqueue", ""},
	{"cgroup2", "/sys/fs/cgroup", ""},
}

// Boot is what init does before it serves.
func Boot() error {
	for _, m := range earlyMounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.fstype, m.target, m.fstype, 0, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err)
		}
	}
	if err := LoadModules("/modules"); err != nil {
		return err
	}
	if err := readInitData("/initdata.toml"); err != nil {
		return err
	}
	if err := leaveRootfs(); err != nil {
		return err
	}
	if err := LoopbackUp(); err != nil {
		return err
	}
	if err := networkUp(); err != nil {
		return err
	}
	return enableControllers()
}

// LoadModules loads the modules that dir/order names and removes the directory from memory.
func LoadModules(dir string) error {
	order, err := os.ReadFile(filepath.Join(dir, "order"))
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(order)) {
		if err := loadModule(filepath.Join(dir, name+".ko")); err != nil {
			return fmt.Errorf("kernel module %s: %w", name, err)
		}
	}
	return os.RemoveAll(dir)
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EOPNOTSUPP) { // built in; for another CPU (kvm_intel, kvm_amd)
		return nil
	}
	return err
}

// leaveRootfs puts a mount over the kernel's initial root file system: pivot_root(2) refuses to work when the current
// root is that one, and containers need it.
func leaveRootfs() error {
	const over = "/newroot"
	if err := unix.Mount("/", over, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind / on %s: %w", over, err)
	}
	if err := unix.Chdir(over); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to /: %w", over, err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// LoopbackUp brings the interface lo up.
func LoopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	return nil
}

// PowerOff ends the VM; the last words are on the console. It does not return.
func PowerOff(cause error) {
	logrus.Errorf("the agent ends: %v", cause)
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		logrus.Errorf("power off: %v", err)
	}
	select {}
}
