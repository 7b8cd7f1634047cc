package cli

import (
	"io"
	"os"
)

// OpenVolume opens a file or block device and returns its size.
func OpenVolume(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	size, err := f.Seek(0, io.SeekEnd) // knows the size of block devices, too
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, size, nil
}
