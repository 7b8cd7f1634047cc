package verity

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// maxInMemory is how many bytes of digests Leaves keep in memory: those of 512 MiB in blocks of 4096 bytes. What is
// more goes to a file, so that memory does not grow with the volume.
const maxInMemory = 4 << 20

// Leaves holds the digests of a volume's data blocks, in order. The zero value is empty and keeps all in memory.
type Leaves struct {
	// SpoolDir, if not empty, is where a file without a name is made once there are many digests.
	SpoolDir string

	segments [][]byte // in memory, the first ones
	starts   []int64  // where each of them starts, in bytes
	inMemory int64    // bytes of them
	spool    *os.File // the others
	spooled  int64    // bytes of them
	blocks   uint64
}

// Segment is room for the digests of some consecutive blocks.
type Segment struct {
	Digests []byte // to be filled
	spool   *os.File
	offset  int64
}

// Grow appends room for the digests of the next blocks data blocks. It is to be filled and given to Done before
// WriteTree, by any goroutine.
func (l *Leaves) Grow(blocks int) (*Segment, error) {
	s := &Segment{Digests: make([]byte, blocks*DigestSize)}
	if err := l.place(s); err != nil {
		return nil, err
	}
	l.blocks += uint64(blocks)
	return s, nil
}

func (l *Leaves) place(s *Segment) error {
	size := int64(len(s.Digests))
	if l.spool == nil && (l.SpoolDir == "" || l.inMemory+size <= maxInMemory) {
		l.segments, l.starts = append(l.segments, s.Digests), append(l.starts, l.inMemory)
		l.inMemory += size
		return nil
	}
	if l.spool == nil {
		var err error
		if l.spool, err = TempFile(l.SpoolDir); err != nil {
			return err
		}
	}
	s.spool, s.offset = l.spool, l.spooled
	l.spooled += size
	return nil
}

// Done says that the segment is filled.
func (s *Segment) Done() error {
	if s.spool == nil {
		return nil
	}
	if _, err := s.spool.WriteAt(s.Digests, s.offset); err != nil {
		return fmt.Errorf("verity: temporary file: %w", err)
	}
	s.Digests = nil
	return nil
}

// Append adds the digests of further data blocks, which are known.
func (l *Leaves) Append(digests []byte) error {
	s := &Segment{Digests: digests}
	if err := l.place(s); err != nil {
		return err
	}
	l.blocks += uint64(len(digests) / DigestSize)
	return s.Done()
}

// Blocks returns the number of data blocks.
func (l *Leaves) Blocks() uint64 { return l.blocks }

// ReadAt reads digests as one run of bytes. All segments must be filled and done.
func (l *Leaves) ReadAt(b []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, errors.New("verity: negative offset")
	}
	first, found := slices.BinarySearch(l.starts, offset)
	if !found {
		first--
	}
	for i := max(first, 0); i < len(l.segments) && n < len(b) && offset < l.inMemory; i++ {
		k := copy(b[n:], l.segments[i][offset-l.starts[i]:])
		n, offset = n+k, offset+int64(k)
	}
	switch {
	case n == len(b):
		return n, nil
	case l.spool == nil:
		return n, io.EOF
	}
	k, err := io.NewSectionReader(l.spool, 0, l.spooled).ReadAt(b[n:], offset-l.inMemory)
	return n + k, err
}

// digests returns a reader of all digests.
func (l *Leaves) digests() io.Reader { return io.NewSectionReader(l, 0, int64(l.blocks)*DigestSize) }

// TempFile returns a new file in dir that has no name and is gone when it is closed.
func TempFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".crio-erofs.*") // O_TMPFILE is Linux's, and not of all file systems
	if err != nil {
		return nil, fmt.Errorf("temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("temporary file: %w", err), f.Close())
	}
	return f, nil
}

// Close frees what the leaves take outside of memory.
func (l *Leaves) Close() error {
	if l.spool == nil {
		return nil
	}
	return l.spool.Close()
}
