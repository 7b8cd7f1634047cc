package guest

import (
	"errors"
	"io"
	"os"
)

// InitDataName is the name in the guest's root directory of the init data that a VM is started with.
const InitDataName = "initdata.toml"

// AppendFile writes to out what initrd has, and an archive with one more file. The kernel unpacks archives that follow
// each other one after the other (Documentation/driver-api/early-userspace/buffer-format.rst).
func AppendFile(out, initrd, name string, data []byte) (err error) {
	in, err := os.Open(initrd)
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := io.Copy(f, in)
	if err != nil {
		return err
	}
	c := &cpioWriter{w: f}
	c.pad(int(n & 3))
	c.add(name, cpioRegular|0o444, data)
	return c.close()
}
