package driver

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	graphdriver "github.com/containers/storage/drivers"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// Capabilities is what the kernel and a file system can do for a store, found out by doing it. A nil error is a yes; an
// error says what is missing.
type Capabilities struct {
	// BackingFS is the name of the file system.
	BackingFS string

	EROFS     error // the kernel has EROFS
	Overlay   error // the kernel has overlayfs
	FileMount error // volumes are mounted straight from their files
	LoopMount error // volumes are mounted through loop devices
	Reflink   error // files share blocks, so that image volumes cost nothing
	IDMapped  error // containers with user namespaces share volumes with all others
	Verity    error // the host mounts volumes through dm-verity
}

const (
	// tryPrefix begins the names of directories in which capabilities are tried.
	tryPrefix = ".crio-erofs-try-"

	// tryFor is how long a try never takes.
	tryFor = 10 * time.Minute
)

// FindCapabilities tries what the driver needs in a temporary directory below dir, and leaves nothing there. Only root can.
func FindCapabilities(dir string) (_ *Capabilities, err error) {
	if err := clearTries(dir); err != nil {
		return nil, err
	}
	home, err := os.MkdirTemp(dir, tryPrefix)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, removeAll(home)) }()
	options, err := parseOptions(nil)
	if err != nil {
		return nil, err
	}
	d := &Driver{store: store{home: home}, options: options, refs: graphdriver.NewRefCounter(mountChecker{})}
	c := &Capabilities{EROFS: haveFS("erofs"), Overlay: haveFS("overlay")}
	if c.BackingFS, err = fsName(home); err != nil {
		return nil, err
	}
	if err := d.makeDirs(); err != nil {
		return nil, err
	}
	path, done, err := d.newVolume()
	if err != nil {
		return nil, err
	}
	return c, errors.Join(d.tryVolume(c, path), done())
}

// clearTries removes the directories of processes that were killed in a try.
func clearTries(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), tryPrefix) {
			continue
		}
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && time.Since(fi.ModTime()) < tryFor {
			continue
		}
		if err := errors.Join(err, removeAll(filepath.Join(dir, e.Name()))); err != nil {
			return err
		}
	}
	return nil
}

// tryVolume tries all that can be done with a volume.
func (d *Driver) tryVolume(c *Capabilities, path string) error {
	c.FileMount = tryMount(func() (*os.File, error) { return mountFile(path) })
	c.LoopMount = tryMount(func() (*os.File, error) { return mountByLoop(path) })
	v := &volume.ManifestVolume{Path: path}
	if err := readJSON(filepath.Join(filepath.Dir(path), descriptionFile), &v.Description); err != nil {
		return err
	}
	c.Verity = tryMount(func() (*os.File, error) { return mountVerified(v) })
	reason, err := tryReflink(path, d.tmpDir())
	if err != nil {
		return err
	}
	if reason != "" {
		c.Reflink = errors.New(reason)
	}
	if d.mount = MountFile; c.FileMount != nil {
		d.mount = MountLoop
	}
	if c.IDMapped = errors.Join(c.FileMount, c.LoopMount); c.FileMount != nil && c.LoopMount != nil {
		return nil
	}
	if err := d.probeShifting(path); err != nil {
		return err
	}
	c.IDMapped = nil
	if d.noShifting != "" {
		c.IDMapped = errors.New(d.noShifting)
	}
	return nil
}

func tryMount(mount func() (*os.File, error)) error {
	mnt, err := mount()
	if err != nil {
		return err
	}
	return mnt.Close()
}

// Settings is what storage options say of the things that depend on a node's capabilities.
type Settings struct {
	Layout     volume.Layout
	Mount      MountMode
	Image      ImageMode
	Verity     bool // new volumes get a hash tree
	HostVerity bool
	RWDisk     bool // containers in VMs get a disk for what they write
	Decrypted  bool // layers may be in the store that were encrypted in the registry
}

// CheckOptions judges storage options as Init does.
func CheckOptions(list []string) (*Settings, error) {
	o, err := parseOptions(list)
	if err != nil {
		return nil, err
	}
	if err := o.checkPrograms(); err != nil {
		return nil, err
	}
	return &Settings{Layout: o.layout, Mount: o.mount, Image: o.image, Verity: o.tree, HostVerity: o.hostVerity,
		RWDisk: o.rwDisk, Decrypted: o.decrypted}, nil
}
