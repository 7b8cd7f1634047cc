package driver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// storeVersion is the version of the store's layout on disk that this driver writes; it reads all up to this one. It is
// a variable for tests, which are to see what a driver makes of a store when a newer one has used it.
var storeVersion = 1

// dirMode is the mode of the store's directories that hold images' content: nobody but root may reach it, or any local
// user could run an image's set-user-id programs.
const dirMode = 0o700

// store knows where everything is below the driver's home, <graphroot>/erofs.
type store struct {
	home string
}

func (s store) lockPath() string    { return filepath.Join(s.home, "store.lock") }
func (s store) versionPath() string { return filepath.Join(s.home, "store.json") }
func (s store) volumesDir() string  { return filepath.Join(s.home, "volumes") }
func (s store) layersDir() string   { return filepath.Join(s.home, "layers") }
func (s store) mountsDir() string   { return filepath.Join(s.home, "mounts") }
func (s store) tmpDir() string      { return filepath.Join(s.home, "tmp") }

// imagesLink leads to the store for images, if they have one of their own.
func (s store) imagesLink() string { return filepath.Join(s.home, "images") }

// templatesDir has the empty writable layers of which containers get copies.
func (s store) templatesDir() string { return filepath.Join(s.home, "templates") }

// emptyDir is an empty directory: overlayfs's lowest layer where there are no others.
func (s store) emptyDir() string { return filepath.Join(s.home, "empty") }

func (s store) volumeDir(name string) string  { return filepath.Join(s.volumesDir(), name) }
func (s store) volumePath(name string) string { return filepath.Join(s.volumeDir(name), volumeFile) }
func (s store) hostMount(name string) string  { return filepath.Join(s.mountsDir(), name) }

func (s store) layerDir(id string) string   { return filepath.Join(s.layersDir(), id) }
func (s store) recordPath(id string) string { return filepath.Join(s.layerDir(id), "layer.json") }
func (s store) linkPath(id string) string   { return filepath.Join(s.layerDir(id), "volume.erofs") }
func (s store) imageRecordPath(id string) string {
	return filepath.Join(s.layerDir(id), "image.json")
}
func (s store) imageLinkPath(id string) string { return filepath.Join(s.layerDir(id), "image.erofs") }
func (s store) rwLayerPath(id string) string {
	return filepath.Join(s.layerDir(id), volume.RWLayerName)
}
func (s store) diffDir(id string) string   { return filepath.Join(s.layerDir(id), "diff") }
func (s store) workDir(id string) string   { return filepath.Join(s.layerDir(id), "work") }
func (s store) mergedDir(id string) string { return filepath.Join(s.layerDir(id), "merged") }

// makeDirs makes the store's directories, those that are missing.
func (s store) makeDirs() error {
	// Processes in user namespaces need to pass through to their layer's directory, so these two let them search.
	for _, dir := range []string{s.home, s.layersDir()} {
		if err := makeDir(dir, 0o711); err != nil {
			return err
		}
	}
	for _, dir := range []string{s.volumesDir(), s.mountsDir(), s.tmpDir(), s.templatesDir()} {
		if err := makeDir(dir, dirMode); err != nil {
			return err
		}
	}
	return makeDir(s.emptyDir(), 0o555)
}

// checkWritable opens the lock's file as containers/storage will, which panics if it cannot.
func (s store) checkWritable() error {
	f, err := os.OpenFile(s.lockPath(), os.O_RDWR|os.O_CREATE, 0o644)
	if errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%w: the kernel makes a file system read-only after an error of its disk: see dmesg, repair it "+
			"(fsck), and mount it writable again (mount -o remount,rw)", err)
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func makeDir(dir string, mode os.FileMode) error {
	if err := mkdir(dir, mode, 0, 0); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// versionFile is what store.json says.
type versionFile struct {
	Version int `json:"version"`
}

// checkVersion refuses a store that a newer driver has written, and marks a new store, or one of an older driver, with
// our version before anything is written that an older driver would not understand.
func (s store) checkVersion() error {
	version, err := s.knownVersion()
	if errors.Is(err, fs.ErrNotExist) || (err == nil && version < storeVersion) {
		return writeJSON(s.versionPath(), versionFile{storeVersion}, 0o644, durable)
	}
	return err
}

// knownVersion returns the version of a store, and refuses one that a newer driver has written.
func (s store) knownVersion() (int, error) {
	var file versionFile
	if err := readJSON(s.versionPath(), &file); err != nil {
		return 0, fmt.Errorf("store version: %w; restore the file's content, which is {\"version\":%d}, or wipe the store "+
			"(crio wipe -f) and let images be pulled again", err, storeVersion)
	}
	if !isKnown(file.Version) {
		return 0, fmt.Errorf("store %s has version %d and this driver knows %s only: install the crio-erofs release that "+
			"wrote it, or wipe the store (crio wipe -f) and let images be pulled again", s.home, file.Version, knownVersions())
	}
	return file.Version, nil
}

// isKnown says whether this driver knows what a record of a version means.
func isKnown(version int) bool { return version >= 1 && version <= storeVersion }

// knownVersions says which versions this driver knows.
func knownVersions() string {
	if storeVersion == 1 {
		return "version 1"
	}
	return fmt.Sprintf("versions 1 to %d", storeVersion)
}

// tmp is a directory for something half-made, with a flock(2) that lasts as long as its owner lives.
type tmp struct {
	path string
	lock *os.File
}

// newTmp makes a temporary directory. The caller holds the store's lock, or else clearTmp could come between mkdir and
// flock.
func (s store) newTmp() (_ *tmp, err error) {
	path, err := os.MkdirTemp(s.tmpDir(), "")
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(path, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		_ = os.Remove(path)
		return nil, fmt.Errorf("temporary directory: %w", err)
	}
	return &tmp{path: path, lock: lock}, nil
}

// lockDir takes a flock(2) on a directory, which lasts until the file is closed.
func lockDir(path string, how int) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, &fs.PathError{Op: "flock", Path: path, Err: err}
	}
	return f, nil
}

// remove deletes the directory and all that is in it.
func (t *tmp) remove() error {
	return errors.Join(removeAll(t.path), t.lock.Close())
}

// isTmpName says whether a name is one that newTmp gives; others are not this driver's.
func isTmpName(name string) bool {
	_, err := strconv.ParseUint(name, 10, 64) // os.MkdirTemp makes numbers
	return err == nil
}

// clearTmp deletes what dead processes have left in tmp/. The caller holds the store's lock.
func (s store) clearTmp() error {
	entries, err := os.ReadDir(s.tmpDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(s.tmpDir(), e.Name())
		if !isTmpName(e.Name()) {
			warnForeign(path)
			continue
		}
		lock, err := lockDir(path, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK) {
			continue // its owner has just removed it, or is alive
		}
		if err != nil {
			return err
		}
		if err = unmountIn(path); err == nil {
			err = removeAll(path)
		}
		if err = errors.Join(err, lock.Close()); err != nil {
			return fmt.Errorf("clear %s: %w", path, err)
		}
	}
	return nil
}
