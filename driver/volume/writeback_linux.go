package volume

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback has the kernel begin to write a range of a file to the disk, so that the disk is busy while the rest is
// being made and the sync at the end has little left to wait for. It is a hint (sync_file_range(2)): errors show in the
// sync.
func startWriteback(out io.WriterAt, pos, n int64) {
	if f, ok := out.(*os.File); ok {
		_ = unix.SyncFileRange(int(f.Fd()), pos, n, unix.SYNC_FILE_RANGE_WRITE)
	}
}
