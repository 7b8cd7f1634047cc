package driver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MountVolumes mounts volumes read-only on a directory, the lowest first, without a store: several, and one of which
// stacked says so, as an overlay that hides what whiteouts hide. Nothing else is left of it: unmounting the directory
// frees all, and if it fails, or the process dies, nothing is mounted.
func MountVolumes(volumes []string, stacked bool, mode MountMode, dir string) error {
	mounts, err := openVolumes(volumes, mode)
	defer func() {
		for _, mnt := range mounts {
			mnt.Close()
		}
	}()
	if err != nil {
		return err
	}
	if len(mounts) == 1 && !stacked {
		return attach(mounts[0], dir)
	}
	mnt, err := stackMounts(mounts)
	if err != nil {
		return err
	}
	defer mnt.Close()
	return attach(mnt, dir)
}

func openVolumes(volumes []string, mode MountMode) (mounts []*os.File, err error) {
	for _, path := range volumes {
		abs, err := filepath.Abs(path) // the kernel keeps it as the mount's source
		if err != nil {
			return mounts, err
		}
		var mnt *os.File
		switch mode {
		case MountFile:
			mnt, err = mountFile(abs)
		case MountLoop:
			mnt, err = mountByLoop(abs)
		default:
			var fileErr error
			if mnt, fileErr = mountFile(abs); fileErr != nil {
				if mnt, err = mountByLoop(abs); err != nil {
					err = fmt.Errorf("%w; and from the file itself: %w", err, fileErr)
				}
			}
		}
		if err != nil {
			return mounts, err
		}
		mounts = append(mounts, mnt)
	}
	return mounts, nil
}

// stackMounts makes an overlay of mounts that are attached nowhere, the lowest first. overlayfs takes lower directories
// of the caller's mount namespace only, so that is a new one, which ends with the thread; the overlay keeps what it needs.
func stackMounts(mounts []*os.File) (overlay *os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, so that nothing else ever runs in this thread
		if err = unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			err = fmt.Errorf("new mount namespace: %w", err)
			return
		}
		overlay, err = stackHere(mounts)
	}()
	<-done
	return overlay, err
}

// stackBase is where the mounts are in the new mount namespace; every Linux has it.
const stackBase = "/proc"

// stackHere is stackMounts in a mount namespace that is nobody else's.
func stackHere(mounts []*os.File) (*os.File, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	tmpfs, err := newMount("tmpfs", []param{{"source", "tmpfs"}, {"mode", "0755"}}, 0)
	if err != nil {
		return nil, err
	}
	defer tmpfs.Close()
	if err := attach(tmpfs, stackBase); err != nil {
		return nil, err
	}
	// Alone, a lower directory makes no overlay: below all is an empty one.
	lowers := []string{stackBase + "/empty"}
	if err := os.Mkdir(lowers[0], 0o755); err != nil {
		return nil, err
	}
	for i, mnt := range mounts {
		dir := stackBase + "/" + strconv.Itoa(i)
		if err := errors.Join(os.Mkdir(dir, 0o755), attach(mnt, dir)); err != nil {
			return nil, err
		}
		lowers = append(lowers, dir)
	}
	slices.Reverse(lowers)
	return newStack(lowers)
}

// newStack mounts an overlay of lower directories, the topmost first, attached nowhere.
func newStack(lowers []string) (*os.File, error) {
	params := append([]param{{"source", "crio-erofs"}, {key: "ro"}}, overlayParams...)
	var byOne []param
	for _, lower := range lowers {
		byOne = append(byOne, param{"lowerdir+", lower})
	}
	mnt, err := newMount("overlay", append(byOne, params...), volumeAttrs)
	if err == nil || !errors.Is(err, unix.EINVAL) {
		return mnt, err
	}
	all := strings.Join(lowers, ":") // Linux before 6.7
	if len(all) > maxStringParam {
		return nil, fmt.Errorf("%w; %d layers are too many for kernels before Linux 6.7: export the image as one volume "+
			"(crio-erofs export) and mount that", err, len(lowers)-1)
	}
	return newMount("overlay", append([]param{{"lowerdir", all}}, params...), volumeAttrs)
}
