package driver

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// probeImage finds out whether image volumes can be made as the options want it. If not, it notes why.
func (d *Driver) probeImage(path string) error {
	switch d.options.image {
	case ImageOff:
		d.noImage = "the storage option erofs.image_volume=off forbids image volumes: set it to reflink or copy"
	case ImageReflink:
		reason, err := tryReflink(path, d.tmpDir())
		if err != nil {
			return fmt.Errorf("probe for shared blocks: %w", err)
		}
		if reason != "" {
			d.noImage = fmt.Sprintf("%s is on %s, where files cannot share blocks (%s): put graphroot on XFS or btrfs, or set "+
				"erofs.image_volume=copy", d.home, d.backingFS, reason)
		}
	case ImageCopy, ImageBackground:
	}
	return nil
}

// tryReflink says why files in dir cannot share blocks with path, by sharing path's first block with a file without a
// name. It returns "" if they can.
func tryReflink(path, dir string) (reason string, err error) {
	src, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer src.Close()
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Sprintf("no file to try it with: %v", err), nil // a full disk is no reason not to start
	}
	dst := os.NewFile(uintptr(fd), dir)
	defer func() { err = errors.Join(err, dst.Close()) }()
	// Every volume has more than one block of this size.
	err = unix.IoctlFileCloneRange(fd, &unix.FileCloneRange{Src_fd: int64(src.Fd()), Src_length: 4096})
	if err != nil {
		return fmt.Sprintf("FICLONERANGE: %v", err), nil
	}
	return "", nil
}
