package volume

import (
	"fmt"
	"strings"

	"github.com/crio-erofs/crio-erofs/driver/erofs"
)

// Layout says how the bytes of a layer are placed in a volume.
type Layout string

const (
	// LayoutAligned has 4096-byte blocks and block-aligned file data that is never inlined. Linux 5.4 and later mount
	// it.
	LayoutAligned Layout = "aligned"

	// LayoutTarfs has the layer's tar as it is, and 512-byte blocks. The sha256 of the tar, which is the layer's
	// diffID, can be checked on the volume. Linux 6.4 and later mount it; stock Kata cannot verify it.
	LayoutTarfs Layout = "tarfs"
)

// Layouts lists all layouts.
var Layouts = []Layout{LayoutAligned, LayoutTarfs}

// ParseLayout returns the layout of this name.
func ParseLayout(s string) (Layout, error) {
	names := make([]string, len(Layouts))
	for i, l := range Layouts {
		if names[i] = string(l); names[i] == s {
			return l, nil
		}
	}
	return "", fmt.Errorf("layout %q is not known; must be one of (%s)", s, strings.Join(names, "|"))
}

// FormatVersion returns the version of the format of the volumes that Build makes with this layout.
func (l Layout) FormatVersion() int {
	if l == LayoutTarfs {
		return erofs.TarfsFormatVersion
	}
	return erofs.FormatVersion
}

// BlockSize returns the size of the blocks of the image, and of the hash tree's data blocks, in bytes.
func (l Layout) BlockSize() int {
	if l == LayoutTarfs {
		return erofs.TarfsBlockSize
	}
	return erofs.BlockSize
}
