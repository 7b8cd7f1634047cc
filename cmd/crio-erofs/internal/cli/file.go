package cli

import (
	"fmt"
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

// CheckOutput refuses an output that is one of the inputs: it would take the input's place.
func CheckOutput(out string, inputs ...string) error {
	fi, err := os.Stat(out)
	if err != nil {
		return nil // it is not there
	}
	for _, path := range inputs {
		if in, err := os.Stat(path); err == nil && os.SameFile(fi, in) {
			return Usage(fmt.Errorf("%s is what is read, and would be replaced: name another file to write", out))
		}
	}
	return nil
}
