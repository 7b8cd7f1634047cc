package guest

import (
	"fmt"
	"io"
)

// cpioWriter writes an initramfs: the "newc" format of cpio(5), see the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst.
type cpioWriter struct {
	w   io.Writer
	ino int
	err error
}

// Types of a cpio entry's mode, as in <linux/stat.h>.
const (
	cpioDir     = 0o040000
	cpioRegular = 0o100000
)

// add writes an entry. The inode number only has to differ between entries; the time is 0 so that equal contents give
// equal files.
func (c *cpioWriter) add(name string, mode int, data []byte) {
	c.ino++
	nlink := 1
	if mode&cpioDir != 0 {
		nlink = 2
	}
	c.header(name, c.ino, mode, nlink, len(data))
	c.write(data)
	c.pad(len(data))
}

func (c *cpioWriter) header(name string, ino, mode, nlink, size int) {
	h := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		ino, mode, 0, 0, nlink, 0, size, 0, 0, 0, 0, len(name)+1, 0)
	c.write([]byte(h + name + "\x00"))
	c.pad(len(h) + len(name) + 1)
}

// pad fills up to a multiple of 4 bytes.
func (c *cpioWriter) pad(n int) { c.write(make([]byte, -n&3)) }

func (c *cpioWriter) write(b []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(b)
	}
}

// close writes the entry that ends the archive.
func (c *cpioWriter) close() error {
	c.header("TRAILER!!!", 0, 0, 1, 0)
	return c.err
}
