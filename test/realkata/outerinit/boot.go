package outerinit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/realkata/outer"
	"github.com/crio-erofs/crio-erofs/test/standin/agent"
)

// newRoot is where the root is put together.
const newRoot = "/newroot"

// Boot makes an overlay of the machine's file system and the VM's disk the root.
func Boot() error {
	if err := mount("devtmpfs", "/dev", "devtmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	if err := agent.LoadModules("/modules"); err != nil {
		return err
	}
	if err := mount(outer.HostTag, "/host", "virtiofs", unix.MS_RDONLY, ""); err != nil {
		return err
	}
	if err := mount("/dev/vda", "/disk", "ext4", 0, ""); err != nil {
		return err
	}
	for _, dir := range []string{"/disk/upper", "/disk/work", "/disk/scratch"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	overlay := "lowerdir=/host,upperdir=/disk/upper,workdir=/disk/work"
	if err := mount("overlay", newRoot, "overlay", 0, overlay); err != nil {
		return err
	}
	if err := fillRoot(); err != nil {
		return err
	}
	if err := enterRoot(); err != nil {
		return err
	}
	if err := enableControllers(); err != nil {
		return err
	}
	return agent.LoopbackUp()
}

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", fstype, target, err)
	}
	return nil
}

// fillRoot mounts what every system has.
func fillRoot() error {
	for _, m := range []struct{ fstype, target, data string }{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"devtmpfs", "/dev", "mode=0755"},
		{"devpts", "/dev/pts", "mode=0620,ptmxmode=0666,gid=5"},
		{"tmpfs", "/dev/shm", "mode=1777"},
		{"tmpfs", "/run", "mode=0755"},
		{"cgroup2", "/sys/fs/cgroup", ""},
	} {
		if err := mount(m.fstype, newRoot+m.target, m.fstype, 0, m.data); err != nil {
			return err
		}
	}
	scratch := newRoot + outer.ScratchDir
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/disk/scratch", scratch, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", scratch, err)
	}
	return nil
}

// enterRoot moves the new root over the kernel's initial one, as switch_root(8) does; containers cannot pivot_root(2)
// out of that. Mounts are shared, as systemd makes them.
func enterRoot() error {
	if err := unix.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to /: %w", newRoot, err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

// enableControllers makes a control group of our own, as no process may be in one that others are below of, and hands
// all controllers to the groups below the root.
func enableControllers() error {
	const top = "/sys/fs/cgroup"
	if err := os.Mkdir(filepath.Join(top, "init"), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.WriteFile(filepath.Join(top, "init/cgroup.procs"), []byte("0"), 0); err != nil {
		return err
	}
	all, err := os.ReadFile(filepath.Join(top, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(all)) {
		if err := os.WriteFile(filepath.Join(top, "cgroup.subtree_control"), []byte("+"+name), 0); err != nil {
			return fmt.Errorf("control group controller %s: %w", name, err)
		}
	}
	return nil
}
