package verity

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxInMemory is how many bytes of digests Leaves keep in memory: those of 512 MiB in blocks of 4096 bytes. What is
// more goes to a file, so that memory does not grow with the volume.
const maxInMemory = 4 << 20

// Leaves holds the digests of a volume's data blocks, in order. The zero value is empty and keeps all in memory.
type Leaves struct {
	// SpoolDir, if not empty, is where a file without a name is made once there are many digests.
	SpoolDir string

	segments [][]byte // in memory, the first ones
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
		l.segments = append(l.segments, s.Digests)
		l.inMemory += size
		return nil
	}
	if l.spool == nil {
		fd, err := unix.Open(l.SpoolDir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return fmt.Errorf("verity: temporary file in %s: %w", l.SpoolDir, err)
		}
		l.spool = os.NewFile(uintptr(fd), "verity digests")
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

// digests returns a reader of all digests.
func (l *Leaves) digests() io.Reader {
	readers := make([]io.Reader, 0, len(l.segments)+1)
	for _, s := range l.segments {
		readers = append(readers, bytes.NewReader(s))
	}
	if l.spool != nil {
		readers = append(readers, io.NewSectionReader(l.spool, 0, l.spooled))
	}
	return io.MultiReader(readers...)
}

// Close frees what the leaves take outside of memory.
func (l *Leaves) Close() error {
	if l.spool == nil {
		return nil
	}
	return l.spool.Close()
}
