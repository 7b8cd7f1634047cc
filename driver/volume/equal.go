package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/crio-erofs/crio-erofs/driver/erofs"
	"github.com/crio-erofs/crio-erofs/driver/verity"
)

// dataSink takes the file data of an image of the aligned layout, and compares files with what it has taken: in memory
// what is still there, what is not by its digests or, if nothing is hashed, in the file. Both are complete by then:
// a chunk is taken for another piece of the stream when it has been hashed and written.
type dataSink struct {
	*sink
	written io.ReaderAt           // what was written; needed without leaves
	apart   bool                  // the room is in spare, because it would cross the end of a chunk
	spare   [erofs.MaxShared]byte // chunks are always filled: their blocks are hashed many at a time
	read    [erofs.MaxShared]byte
}

// Room returns n bytes, of the present chunk if it has them.
func (s *dataSink) Room(n int) []byte {
	if s.apart = len(s.room()) < n; s.apart {
		return s.spare[:n]
	}
	return s.room()[:n]
}

// Advance makes the first n bytes of the room part of the stream.
func (s *dataSink) Advance(n int) error {
	if s.apart {
		_, err := s.Write(s.spare[:n])
		return err
	}
	return s.advance(n)
}

// Same says whether the image has these blocks at this one.
func (s *dataSink) Same(block uint32, blocks []byte) (bool, error) {
	if err := s.failed(); err != nil {
		return false, err
	}
	for pos := int64(block) * blockSize; len(blocks) > 0; {
		have, n := s.held(pos, len(blocks))
		same := bytes.Equal(have, blocks[:n])
		if have == nil {
			var err error
			if same, err = s.sameWritten(pos, blocks[:n]); err != nil {
				return false, err
			}
		}
		if !same {
			return false, nil
		}
		pos, blocks = pos+int64(n), blocks[n:]
	}
	return true, nil
}

// held returns up to most bytes at pos that are in memory and how many that are, or nil and how many are not.
func (s *sink) held(pos int64, most int) ([]byte, int) {
	end := pos + int64(most)
	for _, c := range s.chunks {
		if c.pos <= pos && pos < c.end() {
			n := min(end, c.end()) - pos
			return c.data[pos-c.pos:][:n], int(n)
		}
		if pos < c.pos && c.pos < end {
			end = c.pos
		}
	}
	return nil, int(end - pos)
}

// sameWritten compares blocks with those at pos, which have been hashed and written.
func (s *dataSink) sameWritten(pos int64, blocks []byte) (bool, error) {
	if s.leaves == nil {
		b := s.read[:len(blocks)]
		n, err := s.written.ReadAt(b, pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, fmt.Errorf("volume: read what was written: %w", err)
		}
		clear(b[n:]) // zeros may be left out of the end of the file so far
		return bytes.Equal(b, blocks), nil
	}
	const most = erofs.MaxShared / blockSize * verity.DigestSize
	var have, want [most]byte
	n := len(blocks) / blockSize * verity.DigestSize
	if _, err := s.leaves.ReadAt(have[:n], pos/blockSize*verity.DigestSize); err != nil {
		return false, fmt.Errorf("volume: digests of what was written: %w", err)
	}
	verity.Digests(want[:n], blocks, blockSize)
	return have == want, nil
}
