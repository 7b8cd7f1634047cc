package volume

import (
	"fmt"
	"io/fs"
	"syscall"
)

// FileID tells one file from another that was put in its place.
type FileID struct {
	Device uint64 `json:"device"` // st_dev
	Inode  uint64 `json:"inode"`  // st_ino
}

// FileIDOf returns the identity of the file that fi is of.
func FileIDOf(fi fs.FileInfo) (FileID, error) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return FileID{}, fmt.Errorf("%s: no device and inode numbers", fi.Name())
	}
	return FileID{Device: uint64(st.Dev), Inode: st.Ino}, nil
}
