package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mountFlags are the options that mount(2) takes as bits, as mount(8) names them.
var mountFlags = map[string]struct {
	clear bool
	flag  uintptr
}{
	"ro": {false, unix.MS_RDONLY}, "rw": {true, unix.MS_RDONLY},
	"nosuid": {false, unix.MS_NOSUID}, "suid": {true, unix.MS_NOSUID},
	"nodev": {false, unix.MS_NODEV}, "dev": {true, unix.MS_NODEV},
	"noexec": {false, unix.MS_NOEXEC}, "exec": {true, unix.MS_NOEXEC},
	"sync": {false, unix.MS_SYNCHRONOUS}, "async": {true, unix.MS_SYNCHRONOUS},
	"noatime": {false, unix.MS_NOATIME}, "atime": {true, unix.MS_NOATIME},
	"nodiratime": {false, unix.MS_NODIRATIME}, "diratime": {true, unix.MS_NODIRATIME},
	"relatime": {false, unix.MS_RELATIME}, "norelatime": {true, unix.MS_RELATIME},
	"strictatime": {false, unix.MS_STRICTATIME}, "nostrictatime": {true, unix.MS_STRICTATIME},
	"bind": {false, unix.MS_BIND}, "rbind": {false, unix.MS_BIND | unix.MS_REC},
	"defaults": {}, "rro": {false, unix.MS_RDONLY},
}

// propagation options are set by a mount(2) call of their own.
var propagation = map[string]uintptr{
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC,
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC,
	"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC,
	"unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
}

// parseOptions splits mount options into flags, propagation and the file system's own.
func parseOptions(options []string) (flags, prop uintptr, data string) {
	var own []string
	for _, opt := range options {
		if f, ok := mountFlags[opt]; ok {
			if f.clear {
				flags &^= f.flag
			} else {
				flags |= f.flag
			}
		} else if p, ok := propagation[opt]; ok {
			prop = p
		} else if opt != "tmpcopyup" && !strings.HasPrefix(opt, "X-") && !strings.HasPrefix(opt, "x-") {
			own = append(own, opt)
		}
	}
	return flags, prop, strings.Join(own, ",")
}

// mountInto makes one mount of the OCI configuration below root. Symbolic links in the destination are followed as
// if root were the root, and never out of it.
func mountInto(root string, m specs.Mount) error {
	target, err := securejoin.SecureJoin(root, m.Destination)
	if err != nil {
		return err
	}
	flags, prop, data := parseOptions(m.Options)
	fstype, source := m.Type, m.Source
	if fstype == "bind" {
		flags |= unix.MS_BIND
	}
	if err = makeTarget(target, source, flags); err != nil {
		return err
	}
	switch {
	case flags&unix.MS_BIND != 0:
		err = bindMount(source, target, flags)
	case fstype == "cgroup" || fstype == "cgroup2":
		// The guest has cgroup v2 only; a cgroup namespace makes the container's own the root.
		err = unix.Mount("cgroup", target, "cgroup2", flags, "")
	default:
		err = unix.Mount(source, target, fstype, flags, data)
	}
	if err != nil || prop == 0 {
		return err
	}
	return unix.Mount("", target, "", prop, "")
}

// bindMount needs a second call: the first ignores all flags but MS_REC (mount(2)).
func bindMount(source, target string, flags uintptr) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|flags&unix.MS_REC, ""); err != nil {
		return err
	}
	if rest := flags &^ (unix.MS_BIND | unix.MS_REC); rest != 0 {
		return remount(target, rest)
	}
	return nil
}

// makeTarget creates the mount point if it is missing: a file for a file, else a directory.
func makeTarget(target, source string, flags uintptr) error {
	if _, err := os.Stat(target); err == nil {
		return nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if flags&unix.MS_BIND != 0 {
		fi, err := os.Stat(source)
		if err != nil {
			return err
		}
		if !fi.IsDir() {
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return err
			}
			return os.WriteFile(target, nil, 0o644)
		}
	}
	return os.MkdirAll(target, 0o755)
}
