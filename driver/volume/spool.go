package volume

import (
	"bytes"
	"os"

	"github.com/crio-erofs/crio-erofs/driver/verity"
)

// maxSpoolMemory is how many bytes a spool keeps in memory.
const maxSpoolMemory = 4 << 20

// spool keeps what is written to it, in memory or, if it is much, in a file without a name.
type spool struct {
	dir    string // for the file
	size   int64
	memory []byte
	file   *os.File // nil: all is in memory
}

func (s *spool) Write(b []byte) (n int, err error) {
	if s.file == nil && len(s.memory)+len(b) > maxSpoolMemory {
		if s.file, err = verity.TempFile(s.dir); err != nil {
			return 0, err
		}
		if _, err = s.file.Write(s.memory); err != nil {
			return 0, err
		}
		s.memory = nil
	}
	if s.file != nil {
		n, err = s.file.Write(b)
	} else {
		s.memory, n = append(s.memory, b...), len(b)
	}
	s.size += int64(n)
	return n, err
}

func (s *spool) ReadAt(b []byte, offset int64) (int, error) {
	if s.file != nil {
		return s.file.ReadAt(b, offset)
	}
	return bytes.NewReader(s.memory).ReadAt(b, offset)
}

func (s *spool) Close() error {
	s.memory = nil
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
