package tree

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"
)

// ReadEROFS returns every entry of an EROFS volume as Read does, but with go-erofs, a reader that shares no code with
// the kernel or with this project.
func ReadEROFS(volume string) (map[string]Entry, error) {
	f, err := os.Open(volume)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	img, err := erofs.Open(f)
	if err != nil {
		return nil, fmt.Errorf("go-erofs: open %s: %w", volume, err)
	}
	entries := map[string]Entry{}
	groups := map[int64]string{}
	err = fs.WalkDir(img, ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("go-erofs: %q in %s: %w", path, volume, err)
		}
		e, err := readErofsEntry(f, img, path, groups)
		if err != nil {
			return fmt.Errorf("go-erofs: %q in %s: %w", path, volume, err)
		}
		entries[path] = e
		return nil
	})
	return entries, err
}

func readErofsEntry(volume io.ReaderAt, img fs.FS, path string, groups map[int64]string) (Entry, error) {
	fi, err := fs.Lstat(img, path)
	if err != nil {
		return Entry{}, err
	}
	st, ok := fi.Sys().(*erofs.Stat)
	if !ok {
		return Entry{}, fmt.Errorf("stat is a %T", fi.Sys())
	}
	e := Entry{
		Mode: unixMode(st.Mode), // fi.Mode() of a directory lacks set-id and sticky bits
		UID:  st.UID, GID: st.GID, Size: st.Size, Links: uint64(st.Nlink),
		Xattrs: map[string]string{},
	}
	e.MTime.Sec, e.MTime.Nsec = int64(st.Mtime), int64(st.MtimeNs)
	for name, value := range st.Xattrs {
		// go-erofs ends the names of ACLs with a dot (v0.3.1, format.go; the kernel and mkfs.erofs have none).
		e.Xattrs[strings.TrimSuffix(name, ".")] = value
	}
	if first, ok := groups[st.Ino]; ok {
		e.Group = first
	} else {
		e.Group, groups[st.Ino] = path, path
	}
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Size = 0
	case unix.S_IFLNK:
		e.Target, err = fs.ReadLink(img, path)
	case unix.S_IFREG:
		e.SHA256, err = hashErofsFile(volume, img, path, fi)
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Rdev = deviceNumber(st.Rdev)
	}
	return e, err
}

// hashErofsFile reads a file through go-erofs; of a giant, which it could only read from start to end, it asks where
// the data is.
func hashErofsFile(volume io.ReaderAt, img fs.FS, path string, fi fs.FileInfo) (string, error) {
	if fi.Size() >= giant {
		ranger, ok := fi.(interface{ DataRange() []erofs.DataRange })
		if !ok {
			return "", fmt.Errorf("a %T has no ranges of data", fi)
		}
		r := ranger.DataRange()
		if len(r) != 1 || r[0].Offset < 0 || r[0].Size != fi.Size() {
			return "", fmt.Errorf("data of %d bytes is in ranges %v, want one", fi.Size(), r)
		}
		return hashContent(io.NewSectionReader(volume, r[0].Offset, r[0].Size), fi.Size())
	}
	f, err := img.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// unixMode turns a mode of Go's back into one of stat(2).
func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for _, bit := range []struct {
		is   fs.FileMode
		unix uint32
	}{
		{fs.ModeSetuid, unix.S_ISUID}, {fs.ModeSetgid, unix.S_ISGID}, {fs.ModeSticky, unix.S_ISVTX},
	} {
		if m&bit.is != 0 {
			mode |= bit.unix
		}
	}
	switch m.Type() {
	case 0:
		mode |= unix.S_IFREG
	case fs.ModeDir:
		mode |= unix.S_IFDIR
	case fs.ModeSymlink:
		mode |= unix.S_IFLNK
	case fs.ModeNamedPipe:
		mode |= unix.S_IFIFO
	case fs.ModeDevice:
		mode |= unix.S_IFBLK
	case fs.ModeDevice | fs.ModeCharDevice:
		mode |= unix.S_IFCHR
	case fs.ModeSocket:
		mode |= unix.S_IFSOCK
	}
	return mode
}

// deviceNumber turns the on-disk number (new_encode_dev in the kernel's kdev_t.h) into that of stat(2).
func deviceNumber(disk uint32) uint64 {
	major, minor := disk>>8&0xfff, disk&0xff|disk>>12&0xfff00
	return unix.Mkdev(major, minor)
}
