package driver

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Starting a container reads and writes some small files. os.File makes ten system calls for each that a regular file
// does not need, to find out whether the runtime's poller can wait for it: that is half of the time these files take.

// readFile returns a file's content.
func readFile(path string) ([]byte, error) {
	fd, err := openFile(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 4096)
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := uninterrupted(func() (int, error) { return unix.Read(fd, b[len(b):cap(b)]) })
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return b, nil
		}
		b = b[:len(b)+n]
	}
}

// writeFile writes a file that flag, O_TRUNC or O_EXCL, is about, and gives it the mode, whatever the umask. With O_EXCL
// an error leaves no file, and one that was there alone.
func writeFile(path string, b []byte, mode os.FileMode, flag int, sync bool) (err error) {
	fd, err := openFile(path, unix.O_WRONLY|unix.O_CREAT|flag, uint32(mode))
	if err != nil {
		return err
	}
	op := "close"
	defer func() {
		if closed := unix.Close(fd); err == nil {
			err = closed
		}
		if err == nil {
			return
		}
		err = &os.PathError{Op: op, Path: path, Err: err}
		if flag == os.O_EXCL {
			_ = os.Remove(path)
		}
	}()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		op = "stat"
		return err
	}
	// A change that changes nothing is a transaction of the file system's all the same.
	if st.Mode&^unix.S_IFMT != uint32(mode) {
		if err := unix.Fchmod(fd, uint32(mode)); err != nil {
			op = "chmod"
			return err
		}
	}
	if err := writeAll(fd, b); err != nil {
		op = "write"
		return err
	}
	if sync {
		op = "sync"
		_, err = uninterrupted(func() (int, error) { return 0, unix.Fsync(fd) })
	}
	return err
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := uninterrupted(func() (int, error) { return unix.Write(fd, b) })
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		b = b[n:]
	}
	return nil
}

func openFile(path string, flags int, mode uint32) (int, error) {
	fd, err := uninterrupted(func() (int, error) { return unix.Open(path, flags|unix.O_CLOEXEC, mode) })
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// uninterrupted calls a system call again that a signal, of which the Go runtime sends many, has interrupted. Package os
// does so, too.
func uninterrupted(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
