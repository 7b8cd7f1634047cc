package images

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxDifferences bounds how many differences Compare names.
const maxDifferences = 20

// Compare walks two trees and returns an error that names what differs: existence, type, mode, owner, time, size,
// content, link count, target, device number, extended attributes. Names for which ignore returns true may differ in
// everything; ignore is called once for each name of either tree.
func Compare(want, got string, ignore func(name string) bool) error {
	wanted, err := walk(want)
	if err != nil {
		return err
	}
	have, err := walk(got)
	if err != nil {
		return err
	}
	names := slices.Clone(wanted)
	for _, name := range have {
		if _, found := slices.BinarySearch(wanted, name); !found {
			names = append(names, name)
		}
	}
	var errs []error
	for _, name := range names {
		if ignore(name) {
			continue
		}
		if err := compareFile(filepath.Join(want, name), filepath.Join(got, name)); err != nil {
			errs = append(errs, fmt.Errorf("%q: %w", name, err))
		}
	}
	if n := len(errs); n > maxDifferences {
		errs = append(errs[:maxDifferences], fmt.Errorf("and %d more", n-maxDifferences))
	}
	return errors.Join(errs...)
}

// walk returns the sorted names of all files below root, relative to it.
func walk(root string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		names = append(names, name)
		return err
	})
	slices.Sort(names)
	return names, err
}

func compareFile(want, got string) error {
	w, err := describe(want)
	if err != nil {
		return err
	}
	g, err := describe(got)
	if err != nil {
		return err
	}
	if w != g {
		return fmt.Errorf("want %s, got %s", w, g)
	}
	return nil
}

// describe returns all that is compared of one file, in words.
func describe(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); errors.Is(err, unix.ENOENT) {
		return "nothing", nil
	} else if err != nil {
		return "", fmt.Errorf("lstat %s: %w", path, err)
	}
	d := fmt.Sprintf("mode %o, owner %d:%d, mtime %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		sum, err := checksum(path, st.Size)
		if err != nil {
			return "", err
		}
		d += fmt.Sprintf(", links %d, size %d, sha256 %x", st.Nlink, st.Size, sum[:8])
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		d += fmt.Sprintf(", target %q", target)
	case unix.S_IFCHR, unix.S_IFBLK:
		d += fmt.Sprintf(", device %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	x, err := xattrs(path)
	return d + x, err
}

// checksumWhole is the size up to which checksum reads all of a file.
const checksumWhole = 1 << 30

// checksum hashes a file. Of a giant it takes the start, the end and the surroundings of the 4 GiB line.
func checksum(path string, size int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if size <= checksumWhole {
		_, err := io.Copy(h, f)
		return h.Sum(nil), err
	}
	const part = 16 << 20
	for _, at := range []int64{0, 1<<32 - part/2, size - part} {
		if _, err := io.Copy(h, io.NewSectionReader(f, at, part)); err != nil {
			return nil, err
		}
	}
	return h.Sum(nil), nil
}

// xattrs returns the extended attributes. Those of overlayfs itself do not belong to the file.
func xattrs(path string) (string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return "", fmt.Errorf("listxattr %s: %w", path, err)
	}
	var found []string
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		if name == "" || strings.HasPrefix(name, "trusted.overlay.") {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", fmt.Errorf("getxattr %s of %s: %w", name, path, err)
		}
		found = append(found, fmt.Sprintf(", %s=%x", name, value[:n]))
	}
	slices.Sort(found)
	return strings.Join(found, ""), nil
}
