package tree

import (
	"fmt"
	"io/fs"
	"strings"

	goerofs "github.com/erofs/go-erofs"
)

// fileInfo is what go-erofs's FileInfos offer besides fs.FileInfo.
type fileInfo interface {
	fs.FileInfo
	UID() uint32
	GID() uint32
	Ino() uint64
	Nlink() uint64
	Rdev() uint64
	GetXattr(name string) (string, bool)
	GetAllXattr() map[string]string
}

// part is what one layer has of a node.
type part struct {
	layer int
	path  string
	info  fileInfo
}

// Node is a file of any type.
type Node struct {
	fileInfo
	name  string
	stack *Stack
	parts []part // of a directory: of all layers that show in it, topmost first
}

// Name returns the node's name in its directory, "/" of the root.
func (n *Node) Name() string { return n.name }

// Layer returns the number of the layer that the node is in, the lowest is 0.
func (n *Node) Layer() int { return len(n.stack.layers) - 1 - n.parts[0].layer }

// Open opens a regular file.
func (n *Node) Open() (fs.File, error) {
	return n.stack.layers[n.parts[0].layer].Open(n.parts[0].path)
}

// Target returns what a symbolic link says.
func (n *Node) Target() (string, error) {
	return fs.ReadLink(n.stack.layers[n.parts[0].layer], n.parts[0].path)
}

// Mode returns type and permissions. go-erofs's FileInfo leaves the set-id and sticky bits of directories away (v0.3.1).
func (n *Node) Mode() fs.FileMode {
	if st, ok := n.Sys().(*goerofs.Stat); ok {
		return st.Mode
	}
	return n.fileInfo.Mode()
}

// overlayPrefix is of attributes that overlayfs keeps for itself (fs/overlayfs/overlayfs.h, OVL_XATTR_TRUSTED_PREFIX).
const overlayPrefix = "trusted.overlay."

// Xattrs returns the extended attributes. Those of overlayfs are not shown in a stack, as overlayfs does not show them.
func (n *Node) Xattrs() map[string]string {
	all := map[string]string{}
	for name, value := range n.GetAllXattr() {
		if !n.stack.merged || !strings.HasPrefix(name, overlayPrefix) {
			all[strings.TrimSuffix(name, ".")] = value // go-erofs ends the names of ACLs with a dot (v0.3.1, format.go)
		}
	}
	return all
}

// Note says what a node means to overlayfs: "whiteout", "opaque" or nothing.
func (n *Node) Note() string {
	switch {
	case isWhiteout(n.fileInfo):
		return "whiteout"
	case !n.stack.merged && isOpaque(n.fileInfo):
		return "opaque"
	}
	return ""
}

// Device returns the numbers of a device, "major:minor"; "" if it is none.
func (n *Node) Device() string {
	if n.Mode()&fs.ModeDevice == 0 {
		return ""
	}
	major, minor := n.DeviceNumbers()
	return fmt.Sprintf("%d:%d", major, minor)
}

// DeviceNumbers is the kernel's new_decode_dev (include/linux/kdev_t.h).
func (n *Node) DeviceNumbers() (major, minor uint32) {
	dev := uint32(n.Rdev())
	return dev >> 8 & 0xfff, dev&0xff | dev>>12&0xfff00
}

// isWhiteout: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
func isWhiteout(info fileInfo) bool {
	return info.Mode()&fs.ModeCharDevice != 0 && info.Rdev() == 0
}

func isOpaque(info fileInfo) bool {
	v, _ := info.GetXattr(overlayPrefix + "opaque")
	return info.IsDir() && v == "y"
}

// ModeText returns the type and the permissions as ls shows them.
func ModeText(m fs.FileMode) string {
	b := []byte("-rwxrwxrwx")
	switch {
	case m.IsDir():
		b[0] = 'd'
	case m&fs.ModeSymlink != 0:
		b[0] = 'l'
	case m&fs.ModeCharDevice != 0:
		b[0] = 'c'
	case m&fs.ModeDevice != 0:
		b[0] = 'b'
	case m&fs.ModeNamedPipe != 0:
		b[0] = 'p'
	case m&fs.ModeSocket != 0:
		b[0] = 's'
	}
	for i := range 9 {
		if m&(1<<(8-i)) == 0 {
			b[i+1] = '-'
		}
	}
	for i, special := range []struct {
		bit  fs.FileMode
		char byte
	}{{fs.ModeSetuid, 's'}, {fs.ModeSetgid, 's'}, {fs.ModeSticky, 't'}} {
		at := 3 * (i + 1)
		switch {
		case m&special.bit == 0:
		case b[at] == 'x':
			b[at] = special.char
		default:
			b[at] = special.char - 'a' + 'A'
		}
	}
	return string(b)
}
