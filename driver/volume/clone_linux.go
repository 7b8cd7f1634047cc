package volume

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/erofs"
)

// cloneRange lets out share the blocks of an extent with in.
func cloneRange(out, in *os.File, e erofs.Extent) error {
	return unix.IoctlFileCloneRange(int(out.Fd()), &unix.FileCloneRange{
		Src_fd:      int64(in.Fd()),
		Src_offset:  e.From * blockSize,
		Src_length:  e.Blocks * blockSize,
		Dest_offset: e.To * blockSize,
	})
}

// cannotClone says whether an error of FICLONERANGE means that these files cannot share blocks (ioctl_ficlonerange(2)).
func cannotClone(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY)
}

// nextData returns where the next data of a file are between from and end: both are end if there are none.
func nextData(f *os.File, from, end int64) (start, stop int64, err error) {
	start, err = unix.Seek(int(f.Fd()), from, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) || err == nil && start >= end {
		return end, end, nil
	}
	if err != nil {
		return from, end, nil // a file system that cannot tell: all is data
	}
	stop, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: seek: %w", f.Name(), err)
	}
	return start, min(stop, end), nil
}
