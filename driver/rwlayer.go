package driver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

const (
	rwBlockSize = 4096

	// rwTemplateName is that of a template of a version and a size.
	rwTemplateName = "ext4-%d-%d.img"

	// rwTemplateVersion is in the names of templates, and changes with mkfsArgs. Those of version 1 were not synced before
	// they got their names: a power failure may have left zeros.
	rwTemplateVersion = 2
)

// mkfsArgs are for every writable layer. Features are named one by one, so that neither /etc/mke2fs.conf nor the
// version of mkfs.ext4 adds one that a guest's kernel does not know. There is no journal: what a container has written
// is worth nothing when its VM is gone. Inode tables are zeroed now, which costs nothing in a sparse file; the guest's
// kernel would write them all otherwise (ext4's lazyinit thread). metadata_csum_seed lets each copy have a UUID of its
// own. Where the host has no space left, writes fail, and the guest had better stop writing.
var mkfsArgs = []string{"-q", "-t", "ext4", "-b", strconv.Itoa(rwBlockSize), "-I", "256", "-i", "16384", "-m", "0",
	"-e", "remount-ro", "-O", "none,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file," +
		"dir_nlink,extra_isize,metadata_csum,metadata_csum_seed",
	"-E", "lazy_itable_init=0,nodiscard,root_owner=0:0"}

// checkPrograms makes sure that writable layers can be made, if they are asked for.
func (o *options) checkPrograms() error {
	if !o.rwDisk {
		return nil
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		return fmt.Errorf("erofs.rw_layer=ext4 needs mkfs.ext4: %w; install e2fsprogs, or use erofs.rw_layer=memory",
			errors.Join(err, graphdriver.ErrPrerequisites))
	}
	return nil
}

// addRWLayer puts the container's writable layer into its manifest, and makes it if it is not there, with the SELinux label
// of what the container may write.
func (d *Driver) addRWLayer(m *volume.Manifest, label string) error {
	if !d.options.rwDisk {
		return nil
	}
	path := d.rwLayerPath(m.ID)
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.makeRWLayer(path, label); err != nil {
			return fmt.Errorf("make the writable layer %s: %w", path, err)
		}
		fi, err = os.Lstat(path)
	}
	if err != nil {
		return err
	}
	id, err := volume.FileIDOf(fi)
	m.RWLayer = &volume.RWLayer{Path: path, FSType: "ext4", Size: fi.Size(), FileID: id}
	return err
}

// makeRWLayer makes a copy of the template at path, with a UUID of its own. It appears whole or not at all: until then it
// has no name, and goes with the process.
func (d *Driver) makeRWLayer(path, label string) (err error) {
	template, err := d.rwTemplate()
	if err != nil {
		return err
	}
	in, err := os.Open(template)
	if err != nil {
		return err
	}
	defer in.Close()
	fd, err := openFile(filepath.Dir(path), unix.O_TMPFILE|unix.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), path)
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := copySparse(out, in); err != nil {
		return err
	}
	if err := renewUUID(out); err != nil {
		return err
	}
	own := "/proc/self/fd/" + strconv.Itoa(fd)
	// The VM's QEMU writes it, whose categories are the pod's; it may only read what else is in the store.
	if label != "" {
		if err := selinux.SetFileLabel(own, label); err != nil {
			return err
		}
	}
	// It does not replace what is there: another process may have made it meanwhile, and its container may run.
	err = unix.Linkat(unix.AT_FDCWD, own, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return &os.LinkError{Op: "link", Old: own, New: path, Err: err}
	}
	return nil
}

// recoverTemplates removes templates of other versions of the driver.
func (d *Driver) recoverTemplates() error {
	names, err := namesIn(d.templatesDir())
	if err != nil {
		return err
	}
	for _, name := range names {
		var version int
		var size int64
		if _, err := fmt.Sscanf(name, rwTemplateName, &version, &size); err != nil || version == rwTemplateVersion {
			continue
		}
		if err := removeAll(filepath.Join(d.templatesDir(), name)); err != nil {
			return err
		}
	}
	return nil
}

// rwTemplate returns an empty writable layer of the configured size.
func (d *Driver) rwTemplate() (path string, err error) {
	path = filepath.Join(d.templatesDir(), fmt.Sprintf(rwTemplateName, rwTemplateVersion, d.options.rwSize))
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	d.lock.Lock()
	t, err := d.newTmp()
	d.lock.Unlock()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, t.remove()) }()
	made, err := d.mkfs(t.path)
	if err != nil {
		return "", err
	}
	// mkfs.ext4 reserves the blocks of the inode tables, though they are zeros. A copy does not. It is synced before it
	// gets its name: after a power failure there would be a template of zeros, and no container could start.
	sparse := filepath.Join(t.path, "sparse")
	if err := copyFile(sparse, made); err != nil {
		return "", err
	}
	return path, os.Rename(sparse, path)
}

// mkfs makes a file system in a new file in dir. It has the directories that an overlay needs, which Kata's runtime-rs
// would make and others may not.
func (d *Driver) mkfs(dir string) (path string, err error) {
	root := filepath.Join(dir, "root")
	for _, sub := range []string{root, filepath.Join(root, "upper"), filepath.Join(root, "work")} {
		if err := mkdir(sub, 0o755, 0, 0); err != nil {
			return "", err
		}
	}
	path = filepath.Join(dir, volume.RWLayerName)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return "", err
	}
	if err := os.Truncate(path, d.options.rwSize); err != nil {
		return "", fmt.Errorf("%w: a file of %d bytes (erofs.rw_size) may be more than %s can have", err, d.options.rwSize,
			d.backingFS)
	}
	cmd := exec.Command("mkfs.ext4", append(mkfsArgs, "-d", root, path)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", cmd, err, strings.TrimSpace(string(out)))
	}
	return path, nil
}

// rwUsage returns how many bytes a container's writable layer takes on the disk, 0 if it has none.
func (d *Driver) rwUsage(id string) (int64, error) {
	blocks, err := allocated(d.rwLayerPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return blocks, err
}
