package erofs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path"
	"strings"
)

const (
	paxSparse = "GNU.sparse." // PAX records of a sparse file

	// maxSparse bounds the sum of the sizes of a layer's sparse files, in bytes. Holes cost nothing in the tar, but in
	// a volume every 4 KiB of them has a digest.
	maxSparse = 16 << 30

	// maxBlocks bounds an image's blocks; block numbers have 32 bits and metadata needs some.
	maxBlocks = math.MaxUint32 - 1<<24
)

// fileData puts the data of regular files where a layout wants it.
type fileData interface {
	// place gives n, of a size that is not 0, its block. It may leave data unread.
	place(n *node, hdr *tar.Header, data io.Reader) error
}

// layerReader reads a layer's tar and makes the tree of it.
type layerReader struct {
	data   fileData
	sparse int64        // sum of the sizes of sparse files
	count  func() int64 // nil, or how much of the tar has been read
	start  int64        // where the present entry's first header is, if count is there
	tree   *tree
	stats  Stats

	deletions []deletion
}

// readLayer reads a layer's tar to its end.
func (l *layerReader) readLayer(layer io.Reader) error {
	tr := tar.NewReader(layer)
	last := "" // quoted only when it is needed
	after := func() string {
		if l.stats.Entries == 0 {
			return "the beginning"
		}
		return quote(last)
	}
	for {
		if l.count != nil {
			// What Next still skips is the end of the last entry's last block.
			if _, err := io.Copy(io.Discard, tr); err != nil {
				return fmt.Errorf("layer tar: entry %s: %w", after(), noEOF(err))
			}
			l.start = (l.count() + 511) &^ 511
		}
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return l.finish()
		}
		// Go's own check of names is a setting (tarinsecurepath); splitPath's is not.
		if err != nil && (hdr == nil || !errors.Is(err, tar.ErrInsecurePath)) {
			return fmt.Errorf("layer tar: entry after %s: %w", after(), noEOF(err))
		}
		if err := l.entry(hdr, tr); err != nil {
			return fmt.Errorf("layer tar: entry %s: %w", quote(hdr.Name), err)
		}
		last = hdr.Name
		l.stats.Entries++
	}
}

// finish makes the tree what it is to be after the last entry.
func (l *layerReader) finish() error {
	// AUFS kept the files that hard links go to in such a directory.
	maps.DeleteFunc(l.tree.root.children, func(name string, _ *node) bool { return strings.HasPrefix(name, whiteoutMetaPrefix) })
	if err := l.tree.delete(l.deletions); err != nil {
		return fmt.Errorf("layer tar: %w", err)
	}
	return nil
}

// noEOF turns the end of the stream inside of an entry into an error that nobody takes for a proper end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the tar is truncated: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// quote returns a name for messages: hostile ones are cut.
func quote(name string) string {
	const most = 100
	if len(name) > most {
		return fmt.Sprintf("%q… (%d bytes)", name[:most], len(name))
	}
	return fmt.Sprintf("%q", name)
}

// entry adds one entry of the tar to the tree, and the data of a regular file to the image.
func (l *layerReader) entry(hdr *tar.Header, data io.Reader) error {
	const volumeLabel = 'V' // GNU tar's --label
	if hdr.Typeflag == tar.TypeXGlobalHeader || hdr.Typeflag == volumeLabel {
		return nil
	}
	parts, err := splitPath(hdr.Name)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return l.rootEntry(hdr)
	}
	base := parts[len(parts)-1]
	if strings.HasPrefix(base, whiteoutPrefix) && (len(parts) > 1 || !isAUFS(base)) {
		return l.whiteout(parts[:len(parts)-1], base)
	}
	dir, err := l.tree.directory(parts[:len(parts)-1])
	if err != nil {
		return err
	}
	if hdr.Typeflag == tar.TypeLink {
		return l.hardLink(dir, base, hdr.Linkname)
	}
	n, err := l.node(hdr, data)
	if err != nil {
		return err
	}
	return l.tree.put(dir, base, n)
}

func (l *layerReader) rootEntry(hdr *tar.Header) error {
	if hdr.Typeflag != tar.TypeDir {
		return errors.New("the layer's root must be a directory")
	}
	n, err := l.node(hdr, nil)
	if err != nil {
		return err
	}
	l.tree.root.setMetadata(n)
	l.stats.Root = true
	return nil
}

// isAUFS says whether a name is of AUFS's own files.
func isAUFS(base string) bool {
	return strings.HasPrefix(base, whiteoutMetaPrefix) && base != whiteoutOpaque
}

// whiteout notes what an entry deletes.
func (l *layerReader) whiteout(dir []string, base string) error {
	if isAUFS(base) {
		return nil
	}
	d, err := parseWhiteout(dir, base)
	if err != nil {
		return err
	}
	l.deletions = append(l.deletions, d)
	return l.tree.take(d.memory())
}

func (l *layerReader) hardLink(dir *node, base, target string) error {
	parts, err := splitPath(target)
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", quote(target), err)
	}
	n := l.tree.lookup(parts)
	if n == nil {
		return fmt.Errorf("hard link to %s, which the layer does not have before it", quote(target))
	}
	if n.isDir() {
		return fmt.Errorf("hard link to %s, which is a directory", quote(target))
	}
	return l.tree.put(dir, base, n)
}

// node makes the node that an entry describes and writes its data, if it has any.
func (l *layerReader) node(hdr *tar.Header, data io.Reader) (*node, error) {
	n, err := l.metadata(hdr)
	if err != nil {
		return nil, err
	}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		n.mode |= modeRegular
		err = l.regular(n, hdr, data)
	case tar.TypeDir:
		n.mode |= modeDirectory
	case tar.TypeSymlink:
		n.mode = modeSymlink | 0o777
		n.target, err = strings.Clone(hdr.Linkname), checkTarget(hdr.Linkname)
		n.size = uint64(len(n.target))
	case tar.TypeChar:
		n.mode |= modeCharDev
		n.rdev, err = deviceNumber(hdr)
	case tar.TypeBlock:
		n.mode |= modeBlockDev
		n.rdev, err = deviceNumber(hdr)
	case tar.TypeFifo:
		n.mode |= modeFIFO
	default:
		err = fmt.Errorf("type %q is not one that a layer can have", hdr.Typeflag)
	}
	if err != nil {
		return nil, err
	}
	l.dropUserXattrs(n)
	return n, l.tree.takeContent(n)
}

// metadata makes a node with everything that all types of entries have.
func (l *layerReader) metadata(hdr *tar.Header) (*node, error) {
	n := &node{
		mode:      uint16(hdr.Mode & 0o7777),
		uid:       owner(hdr.Uid),
		gid:       owner(hdr.Gid),
		mtime:     hdr.ModTime.Unix(),
		mtimeNsec: uint32(hdr.ModTime.Nanosecond()),
	}
	if err := l.xattrs(n, hdr.PAXRecords); err != nil {
		return nil, err
	}
	return n, nil
}

// owner returns a uid or gid as extraction by root would set it: lchown(2) takes the lower 32 bits of what
// containers/storage gives it, and -1 for "as it is", which is root.
func owner(id int) uint32 {
	if uint32(id) == math.MaxUint32 {
		return 0
	}
	return uint32(id)
}

// regular checks a file's size and has its data placed.
func (l *layerReader) regular(n *node, hdr *tar.Header, data io.Reader) error {
	n.size, n.block = uint64(hdr.Size), nullBlock
	if hdr.Size == 0 {
		return nil
	}
	if isSparse(hdr) {
		if l.sparse += hdr.Size; l.sparse > maxSparse || l.sparse < 0 {
			return fmt.Errorf("with this one of %d bytes the layer's sparse files are larger than %d bytes together; "+
				"make them smaller or create them when the container starts", hdr.Size, int64(maxSparse))
		}
	}
	return l.data.place(n, hdr, data)
}

func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, paxSparse) {
			return true
		}
	}
	return false
}

func checkTarget(target string) error {
	switch {
	case target == "":
		return errors.New("symbolic link to nothing")
	case len(target) > maxPath:
		return fmt.Errorf("symbolic link to a path of %d bytes; Linux takes at most %d", len(target), maxPath)
	case strings.IndexByte(target, 0) >= 0:
		return fmt.Errorf("symbolic link to a path with a NUL byte, %s", quote(path.Clean(target)))
	}
	return nil
}

func deviceNumber(hdr *tar.Header) (uint32, error) {
	const maxMajor, maxMinor = 1<<12 - 1, 1<<20 - 1 // include/linux/kdev_t.h
	if hdr.Devmajor < 0 || hdr.Devmajor > maxMajor || hdr.Devminor < 0 || hdr.Devminor > maxMinor {
		return 0, fmt.Errorf("device %d:%d; Linux takes at most %d:%d", hdr.Devmajor, hdr.Devminor, maxMajor, maxMinor)
	}
	return encodeDev(uint32(hdr.Devmajor), uint32(hdr.Devminor)), nil
}
