package driver

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/containers/storage/pkg/mount"
	"github.com/opencontainers/selinux/go-selinux/label"
	"golang.org/x/sys/unix"
)

// overlayParams are for every overlay. redirect_dir and metacopy off keep the upper directory in the form that Diff
// reads, whatever the kernel's defaults; "nofollow" also ignores redirects that an image brings along. index must be
// off because it ties an upper to the very file systems below it, and ours are mounted anew after each reboot.
var overlayParams = []param{{"redirect_dir", "nofollow"}, {"metacopy", "off"}, {"index", "off"}}

// overlay describes an overlay mount.
type overlay struct {
	lowers      []string // topmost first
	upper, work string   // empty: read-only
	label       string   // SELinux mount label
	options     []string // mount options, of the file system and of the mount
	volatile    bool
}

// mountOn mounts the overlay on a directory. appendLowers says that the kernel takes lower directories one by one.
func (o *overlay) mountOn(dir string, appendLowers bool) error {
	flags, extra := mount.ParseOptions(strings.Join(o.options, ","))
	params := append(splitParams(extra), overlayParams...)
	if o.volatile && o.upper != "" {
		params = append(params, param{key: "volatile"})
	}
	if o.upper != "" {
		// The kernel refuses an upper that was last mounted volatile and not unmounted orderly. That is for callers to
		// judge who want to keep its data; containers/storage's other drivers remove the mark as well.
		if err := os.RemoveAll(filepath.Join(o.work, "work", "incompat", "volatile")); err != nil {
			return err
		}
	}
	if appendLowers {
		return o.mountByParams(dir, params, attrsOf(flags))
	}
	return o.mountByString(dir, params, flags)
}

// mountByParams uses the mount API of Linux 6.7 and later, which has no limit to the number of layers but overlayfs's
// own 500 ("lowerdir+": commit 24e16e385f22, "ovl: add support for appending lowerdirs one by one").
func (o *overlay) mountByParams(dir string, params []param, attrs int) error {
	var paths pathSet
	defer paths.close()
	all := []param{{"source", "overlay"}}
	for _, lower := range o.lowers {
		all = append(all, param{"lowerdir+", paths.short(lower)})
	}
	if o.upper != "" {
		all = append(all, param{"upperdir", paths.short(o.upper)}, param{"workdir", paths.short(o.work)})
	}
	all = append(all, params...)
	if o.label != "" {
		all = append(all, param{"context", o.label})
	}
	if paths.err != nil {
		return paths.err
	}
	mnt, err := newMount("overlay", all, attrs)
	if err != nil {
		return err
	}
	defer mnt.Close()
	return attach(mnt, dir)
}

// mountByString uses mount(2), whose options must fit in a page. So that 500 layers do, directories are named by the
// numbers of descriptors, which are files in /proc/self/fd.
func (o *overlay) mountByString(dir string, params []param, flags int) error {
	var paths pathSet
	defer paths.close()
	lowers := make([]string, len(o.lowers))
	for i, lower := range o.lowers {
		lowers[i] = paths.number(lower)
	}
	data := []string{"lowerdir=" + strings.Join(lowers, ":")}
	if o.upper != "" {
		data = append(data, "upperdir="+paths.number(o.upper), "workdir="+paths.number(o.work))
	}
	for _, p := range params {
		if p.value == "" {
			data = append(data, p.key)
		} else {
			data = append(data, p.key+"="+p.value)
		}
	}
	if paths.err != nil {
		return paths.err
	}
	options := label.FormatMountLabel(strings.Join(data, ","), o.label)
	if len(options) >= unix.Getpagesize() {
		return fmt.Errorf("overlay of %d layers: the options have %d bytes and this kernel takes %d only: use Linux 6.7 "+
			"or later, or an image with fewer layers", len(lowers), len(options), unix.Getpagesize()-1)
	}
	err := inDir(descriptorsDir, func() error {
		return unix.Mount("overlay", dir, "overlay", uintptr(flags), options)
	})
	if err != nil {
		return fmt.Errorf("mount overlay on %s with %q: %w", dir, options, err)
	}
	return nil
}

// inDir calls f with another working directory, in a thread of its own that then ends: the working directory is one of
// all threads, unless they part with it.
func inDir(dir string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, so that nothing else ever runs in this thread
		err := unix.Unshare(unix.CLONE_FS)
		if err != nil {
			err = fmt.Errorf("unshare the working directory: %w", err)
		} else if err = unix.Chdir(dir); err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// splitParams takes a string of mount options apart.
func splitParams(s string) []param {
	var params []param
	for _, option := range strings.Split(s, ",") {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "", "metacopy", "redirect_dir", "index":
			// overlayParams has them. Options for the overlay driver, such as metacopy=on, come along as a matter of
			// course.
		default:
			params = append(params, param{key, value})
		}
	}
	return params
}

// attrsOf translates the flags of mount(2) that have a counterpart for fsmount(2).
func attrsOf(flags int) int {
	attrs := 0
	for flag, attr := range map[int]int{
		unix.MS_RDONLY:      unix.MOUNT_ATTR_RDONLY,
		unix.MS_NOSUID:      unix.MOUNT_ATTR_NOSUID,
		unix.MS_NODEV:       unix.MOUNT_ATTR_NODEV,
		unix.MS_NOEXEC:      unix.MOUNT_ATTR_NOEXEC,
		unix.MS_NOATIME:     unix.MOUNT_ATTR_NOATIME,
		unix.MS_NODIRATIME:  unix.MOUNT_ATTR_NODIRATIME,
		unix.MS_STRICTATIME: unix.MOUNT_ATTR_STRICTATIME,
	} {
		if flags&flag != 0 {
			attrs |= attr
		}
	}
	return attrs
}

// descriptorsDir has all descriptors of this process, as links.
const descriptorsDir = "/proc/self/fd"

// pathSet names directories in few characters, by descriptors that stay open until close.
type pathSet struct {
	fds []int
	err error
}

// short returns the path itself if fsconfig(2) takes it.
func (s *pathSet) short(path string) string {
	if len(path) <= maxStringParam {
		return path
	}
	return s.descriptor(path)
}

func (s *pathSet) descriptor(path string) string { return descriptorsDir + "/" + s.number(path) }

// number returns a name of the directory in descriptorsDir.
func (s *pathSet) number(path string) string {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		s.err = &os.PathError{Op: "open", Path: path, Err: err}
		return path
	}
	s.fds = append(s.fds, fd)
	return strconv.Itoa(fd)
}

func (s *pathSet) close() {
	for _, fd := range s.fds {
		_ = unix.Close(fd)
	}
}
