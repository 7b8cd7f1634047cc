package erofs

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// xattr is an extended attribute: a prefix that the format numbers, the rest of the name, and the value.
type xattr struct {
	index uint8
	name  string
	value string
}

// xattrUser is the number of the prefix "user.".
const xattrUser = 1

// Prefixes that the format has numbers for (EROFS_XATTR_INDEX_*). The ACLs are whole names: their entries have none of
// their own.
var xattrPrefixes = []struct {
	prefix string
	index  uint8
	whole  bool
}{
	{"user.", xattrUser, false},
	{"system.posix_acl_access", 2, true},
	{"system.posix_acl_default", 3, true},
	{"trusted.", 4, false},
	{"security.", 6, false},
}

// overlayXattr is the prefix of the attributes in which overlayfs keeps its own state.
const overlayXattr = "trusted.overlay."

// opaqueXattr marks a directory that hides what the layers below have in it (Documentation/filesystems/overlayfs.rst,
// "whiteouts and opaque directories").
var opaqueXattr = xattr{index: 4, name: "overlay.opaque", value: "y"}

// parseXattr returns the attribute with this name; ok is false if it does not go into an image.
//
// What does not: names without a number, which most file systems refuse too; overlayfs's own, with which a layer could
// redirect the lookups of the overlay that it becomes part of; and security.selinux, which is the host's to set and
// which containers/storage leaves out likewise (pkg/archive, xattrsToIgnore).
func parseXattr(name, value string) (x xattr, ok bool, err error) {
	if strings.HasPrefix(name, overlayXattr) || name == "security.selinux" {
		return x, false, nil
	}
	for _, p := range xattrPrefixes {
		rest, found := strings.CutPrefix(name, p.prefix)
		if !found || p.whole != (rest == "") {
			continue
		}
		if len(rest) > 255 || len(value) > 0xffff {
			return x, false, fmt.Errorf("extended attribute %q: a name of %d and a value of %d bytes; "+
				"Linux takes at most 255 and 65535", name, len(name), len(value))
		}
		if p.whole {
			if err := checkACL(value); err != nil {
				return x, false, fmt.Errorf("extended attribute %q: %w", name, err)
			}
		}
		return xattr{index: p.index, name: rest, value: value}, true, nil
	}
	return x, false, nil
}

// checkACL refuses an ACL that no file system would take: with one the kernel would let nobody but root to the file.
// Its form is that of include/uapi/linux/posix_acl_xattr.h.
func checkACL(value string) error {
	const header, entry, version = 4, 8, 2
	if len(value) < header || (len(value)-header)%entry != 0 || binary.LittleEndian.Uint32([]byte(value)) != version {
		return fmt.Errorf("not a POSIX ACL: %d bytes", len(value))
	}
	for b := []byte(value)[header:]; len(b) > 0; b = b[entry:] {
		tag, perm := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:])
		switch tag {
		case 0x01, 0x02, 0x04, 0x08, 0x10, 0x20: // ACL_USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER
		default:
			return fmt.Errorf("not a POSIX ACL: tag %#x", tag)
		}
		if perm > 7 {
			return fmt.Errorf("not a POSIX ACL: permissions %#o", perm)
		}
	}
	return nil
}

// checkXattrs refuses more attributes than Linux can list, or than an inode has room for.
func checkXattrs(xattrs []xattr) error {
	const listMax = 65536 // XATTR_LIST_MAX, include/uapi/linux/limits.h
	list := 0
	for _, x := range xattrs {
		for _, p := range xattrPrefixes {
			if p.index == x.index {
				list += len(p.prefix) + len(x.name) + 1
			}
		}
	}
	if list > listMax {
		return fmt.Errorf("names of extended attributes of %d bytes together; Linux takes at most %d", list, listMax)
	}
	if size := xattrBodySize(xattrs); xattrCount(size) > math.MaxUint16 {
		return fmt.Errorf("%d bytes of extended attributes; an EROFS inode takes 256 KiB", size)
	}
	return nil
}

// xattrBodySize returns the size of an inode's attributes on disk, a multiple of 4.
func xattrBodySize(xattrs []xattr) int {
	if len(xattrs) == 0 {
		return 0
	}
	size := xattrBodyHeaderSize
	for _, x := range xattrs {
		size += (xattrEntrySize + len(x.name) + len(x.value) + 3) &^ 3
	}
	return size
}

// xattrCount returns the value of i_xattr_icount for a body of this size (erofs_xattr_ibody_size in erofs_fs.h).
func xattrCount(bodySize int) int {
	if bodySize == 0 {
		return 0
	}
	return (bodySize-xattrBodyHeaderSize)/4 + 1
}

// appendXattrs appends a struct erofs_xattr_ibody_header without shared attributes, and the entries.
func appendXattrs(b []byte, xattrs []xattr) []byte {
	if len(xattrs) == 0 {
		return b
	}
	b = append(b, make([]byte, xattrBodyHeaderSize)...)
	for _, x := range xattrs {
		start := len(b)
		b = append(b, uint8(len(x.name)), x.index)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(x.value)))
		b = append(b, x.name...)
		b = append(b, x.value...)
		for (len(b)-start)%4 != 0 {
			b = append(b, 0)
		}
	}
	return b
}
