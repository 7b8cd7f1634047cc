package driver

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// DiskUsage is what something takes on the disk, in bytes.
type DiskUsage struct {
	Allocated int64 `json:"allocated"` // of all its blocks
	Shared    int64 `json:"shared"`    // of those among them that other files have, too (XFS, btrfs)
}

// Private is what removing it would give back.
func (u DiskUsage) Private() int64 { return u.Allocated - u.Shared }

// FileUsage returns what a file takes on the disk.
func FileUsage(path string) (u DiskUsage, err error) {
	f, err := os.Open(path)
	if err != nil {
		return u, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return u, err
	}
	u.Allocated = blocksOf(fi)
	if u.Shared, err = sharedBytes(f); err != nil {
		return u, &fs.PathError{Op: "fiemap", Path: path, Err: err}
	}
	u.Shared = min(u.Shared, u.Allocated)
	return u, nil
}

// TreeUsage returns what a directory and all in it take on the disk. What goes away meanwhile does not count.
func TreeUsage(root string) (bytes int64, err error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	err = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		var fi fs.FileInfo
		if err == nil {
			fi, err = d.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		if id := (inode{st.Dev, st.Ino}); st.Nlink == 1 || fi.IsDir() || !seen[id] {
			seen[id] = true
			bytes += blocksOf(fi)
		}
		return nil
	})
	return bytes, err
}

func blocksOf(fi fs.FileInfo) int64 { return fi.Sys().(*syscall.Stat_t).Blocks * 512 }

// Of include/uapi/linux/fiemap.h and fs.h.
const (
	fsIOCFiemap        = 0xc020660b // _IOWR('f', 11, struct fiemap)
	fiemapExtentLast   = 0x1
	fiemapExtentShared = 0x2000
	fiemapMaxOffset    = ^uint64(0)
	fiemapBatch        = 128
)

// fiemapExtent is struct fiemap_extent.
type fiemapExtent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

// fiemap is struct fiemap with room for extents.
type fiemap struct {
	start, length                        uint64
	flags, mapped, extentCount, reserved uint32
	extents                              [fiemapBatch]fiemapExtent
}

// sharedBytes returns how much of a file's data other files have, too. File systems that do not know say nothing.
func sharedBytes(f *os.File) (shared int64, err error) {
	m := fiemap{extentCount: fiemapBatch}
	for {
		m.length = fiemapMaxOffset - m.start
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fsIOCFiemap, uintptr(unsafe.Pointer(&m)))
		runtime.KeepAlive(f)
		switch {
		case errors.Is(errno, unix.EOPNOTSUPP), errors.Is(errno, unix.ENOTTY):
			return 0, nil
		case errno != 0:
			return 0, errno
		}
		if m.mapped == 0 {
			return shared, nil
		}
		for _, e := range m.extents[:min(m.mapped, fiemapBatch)] {
			if e.flags&fiemapExtentShared != 0 {
				shared += int64(e.length)
			}
			if e.flags&fiemapExtentLast != 0 {
				return shared, nil
			}
			m.start = e.logical + e.length
		}
	}
}
