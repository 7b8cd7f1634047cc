package trap

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Call is a system call that has not happened yet.
type Call struct{ n *notification }

// Name is that of the call, as in its manual page.
func (c *Call) Name() string { return table[uint32(c.n.nr)].name }

// Changes says whether the call may change a file system or mounts; the others only look.
func (c *Call) Changes() bool {
	e := table[uint32(c.n.nr)]
	if e.flagsArg >= 0 {
		return c.n.args[e.flagsArg]&(unix.O_CREAT|unix.O_TRUNC) != 0
	}
	return !e.reads
}

// Path is what the call is about: of calls with two paths it is the second one, which is made. It is empty for calls
// that are about no file.
func (c *Call) Path() string {
	e := table[uint32(c.n.nr)]
	switch {
	case e.pathArg >= 0 && e.dirArg >= 0:
		return c.resolve(int32(c.n.args[e.dirArg]), c.text(c.n.args[e.pathArg]))
	case e.pathArg >= 0:
		return c.resolve(unix.AT_FDCWD, c.text(c.n.args[e.pathArg]))
	case e.dirArg >= 0:
		return c.descriptor(int32(c.n.args[e.dirArg]))
	}
	return ""
}

// Text returns the string that an argument of the call points to.
func (c *Call) Text(arg int) string { return c.text(c.n.args[arg]) }

// Within says whether the call is about something below a directory, a loop device, or a mount that is being made.
func (c *Call) Within(dir string) bool {
	e := table[uint32(c.n.nr)]
	if e.pathArg < 0 && e.dirArg < 0 {
		return true
	}
	path := c.Path()
	return strings.HasPrefix(path, dir+"/") || strings.HasPrefix(path, "/dev/loop")
}

// String shows the call in a message.
func (c *Call) String() string {
	if path := c.Path(); path != "" {
		return fmt.Sprintf("%s %s", c.Name(), path)
	}
	return c.Name()
}

func (c *Call) resolve(dir int32, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(c.descriptor(dir), path)
}

// descriptor returns the path that a descriptor of the process was opened by.
func (c *Call) descriptor(fd int32) string {
	link := fmt.Sprintf("/proc/%d/fd/%d", c.n.pid, fd)
	if fd == unix.AT_FDCWD {
		link = fmt.Sprintf("/proc/%d/cwd", c.n.pid)
	}
	path, err := os.Readlink(link)
	if err != nil {
		return ""
	}
	return path
}

// text reads a string out of the process, page by page: what is behind it may not be mapped.
func (c *Call) text(address uint64) string {
	var text []byte
	page := uint64(os.Getpagesize())
	for address != 0 && len(text) < unix.PathMax {
		buf := make([]byte, page-address%page)
		n, err := unix.ProcessVMReadv(int(c.n.pid), []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}},
			[]unix.RemoteIovec{{Base: uintptr(address), Len: len(buf)}}, 0)
		if err != nil || n == 0 {
			break
		}
		if end := bytes.IndexByte(buf[:n], 0); end >= 0 {
			return string(append(text, buf[:end]...))
		}
		text, address = append(text, buf[:n]...), address+uint64(n)
	}
	return string(text)
}
