// Package tree compares directory trees entry by entry: the tests' notion of "the same files".
package tree

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Entry is all that a tar can say about a file and a file system can keep of it.
type Entry struct {
	Mode   uint32 // type and permissions
	UID    uint32
	GID    uint32
	MTime  unix.Timespec
	Size   int64 // 0 for directories: every file system has its own idea
	Links  uint64
	Rdev   uint64
	Target string            // of a symbolic link
	SHA256 string            // of a regular file's content, see hashContent
	Xattrs map[string]string // all that root sees
	Group  string            // first name of the same inode: hard links are equal only if they are the same links
}

type inode struct{ dev, ino uint64 }

// Read returns every entry below root, "." included, by path.
func Read(root string) (map[string]Entry, error) {
	entries := map[string]Entry{}
	inodes := map[inode]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		e, err := readEntry(path, rel, inodes)
		entries[rel] = e
		return err
	})
	return entries, err
}

func readEntry(path, rel string, inodes map[inode]string) (Entry, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Entry{}, fmt.Errorf("lstat %s: %w", path, err)
	}
	e := Entry{Mode: st.Mode, UID: st.Uid, GID: st.Gid, MTime: st.Mtim, Size: st.Size, Links: uint64(st.Nlink), Rdev: st.Rdev}
	id := inode{st.Dev, st.Ino} // an overlay has a device number for each layer
	if first, ok := inodes[id]; ok {
		e.Group = first
	} else {
		e.Group, inodes[id] = rel, rel
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Size = 0
	case unix.S_IFLNK:
		e.Target, err = os.Readlink(path)
	case unix.S_IFREG:
		e.SHA256, err = hashFile(path, st.Size)
	}
	if err != nil {
		return e, err
	}
	e.Xattrs, err = readXattrs(path)
	return e, err
}

func hashFile(path string, size int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return hashContent(f, size)
}

const (
	// giant is the size from which only parts of a file are hashed: it would take seconds, and such files are mostly
	// holes.
	giant = 1 << 30

	sample, sampleEvery = 1 << 20, 256 << 20
)

// hashContent returns the sha256 of a file's content, or of a giant's end and of a MiB at every 256 MiB, which has the
// surroundings of the 4 GiB line.
func hashContent(r io.ReaderAt, size int64) (string, error) {
	h := sha256.New()
	add := func(from, to int64) error {
		_, err := io.Copy(h, io.NewSectionReader(r, from, min(to, size)-from))
		return err
	}
	if size < giant {
		if err := add(0, size); err != nil {
			return "", err
		}
		return hex.EncodeToString(h.Sum(nil)), nil
	}
	for at := int64(0); at < size; at += sampleEvery {
		if err := add(max(at-sample/2, 0), at+sample/2); err != nil {
			return "", err
		}
	}
	if err := add(size-sample, size); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func readXattrs(path string) (map[string]string, error) {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("llistxattr %s: %w", path, err)
	}
	xattrs := map[string]string{}
	value := make([]byte, 64<<10)
	for name := range bytes.SplitSeq(bytes.TrimRight(list[:n], "\x00"), []byte{0}) {
		if len(name) == 0 {
			continue
		}
		n, err := unix.Lgetxattr(path, string(name), value)
		if err != nil {
			return nil, fmt.Errorf("lgetxattr %s %s: %w", path, name, err)
		}
		xattrs[string(name)] = string(value[:n])
	}
	return xattrs, nil
}

// Diff returns a line for everything in which got is not as want. An entry for which ignore returns true is not looked
// at.
func Diff(want, got map[string]Entry, ignore func(path string) bool) []string {
	var lines []string
	paths := maps.Clone(want)
	maps.Copy(paths, got)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if ignore != nil && ignore(path) {
			continue
		}
		w, inWant := want[path]
		g, inGot := got[path]
		switch {
		case !inWant:
			lines = append(lines, fmt.Sprintf("%q: not expected", path))
		case !inGot:
			lines = append(lines, fmt.Sprintf("%q: missing", path))
		default:
			lines = append(lines, diffEntry(path, w, g)...)
		}
	}
	return lines
}

func diffEntry(path string, w, g Entry) (lines []string) {
	check := func(what string, want, got any, equal bool) {
		if !equal {
			lines = append(lines, fmt.Sprintf("%q: %s is %v, want %v", path, what, got, want))
		}
	}
	check("mode", fmt.Sprintf("%o", w.Mode), fmt.Sprintf("%o", g.Mode), w.Mode == g.Mode)
	check("uid", w.UID, g.UID, w.UID == g.UID)
	check("gid", w.GID, g.GID, w.GID == g.GID)
	check("mtime", w.MTime, g.MTime, w.MTime == g.MTime)
	check("size", w.Size, g.Size, w.Size == g.Size)
	check("link count", w.Links, g.Links, w.Links == g.Links)
	check("device number", w.Rdev, g.Rdev, w.Rdev == g.Rdev)
	check("link target", w.Target, g.Target, w.Target == g.Target)
	check("content", w.SHA256, g.SHA256, w.SHA256 == g.SHA256)
	check("inode shared with", w.Group, g.Group, w.Group == g.Group)
	check("xattrs", fmt.Sprintf("%q", w.Xattrs), fmt.Sprintf("%q", g.Xattrs), maps.Equal(w.Xattrs, g.Xattrs))
	return lines
}
