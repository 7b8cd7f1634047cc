package verity

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// ReadDigests reads the digests of all data blocks of the volume r, DigestSize bytes each, and checks them, but not the
// data, against the root hash.
func ReadDigests(ctx context.Context, r io.ReaderAt, p Params, root [DigestSize]byte) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.DataBlocks == 1 {
		return root[:], nil
	}
	if err := (&checker{r: r}).tree(ctx, p, root); err != nil {
		return nil, err
	}
	digests := make([]byte, p.DataBlocks*DigestSize)
	return digests, readFull(r, digests, levelOffsets(p.DataBlocks, int64(p.TreeOffset()))[0])
}

const (
	windowBlocks = 32  // how many blocks a Reader reads at a time
	maxWindows   = 256 // how many times that it keeps
)

// Reader reads a volume's data and checks it. It keeps what it has read: it is meant for metadata, of which there is
// little but which is read in many small pieces. It is not safe for concurrent use.
type Reader struct {
	r         io.ReaderAt
	blockSize int64
	digests   []byte
	windows   map[int64][]byte
}

// NewReader returns a Reader for a volume with these digests of its data blocks.
func NewReader(r io.ReaderAt, blockSize uint32, digests []byte) *Reader {
	return &Reader{r: r, blockSize: int64(blockSize), digests: digests, windows: map[int64][]byte{}}
}

// ReadAt implements io.ReaderAt. A block that does not have its digest gives a *CorruptError.
func (r *Reader) ReadAt(b []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, errors.New("verity: negative offset")
	}
	size := r.blockSize * windowBlocks
	for n < len(b) {
		window, err := r.window((offset + int64(n)) / size)
		if err != nil {
			return n, err
		}
		start := (offset + int64(n)) % size
		if start >= int64(len(window)) {
			return n, io.EOF
		}
		n += copy(b[n:], window[start:])
	}
	return n, nil
}

func (r *Reader) window(i int64) ([]byte, error) {
	if w, ok := r.windows[i]; ok {
		return w, nil
	}
	blocks := int64(len(r.digests) / DigestSize)
	first := i * windowBlocks
	if first >= blocks {
		return nil, io.EOF
	}
	w := make([]byte, min(windowBlocks, blocks-first)*r.blockSize)
	if err := readFull(r.r, w, first*r.blockSize); err != nil {
		return nil, fmt.Errorf("data block %d: %w", first, err)
	}
	wanted := r.digests[first*DigestSize:][:int64(len(w))/r.blockSize*DigestSize]
	if err := compare("data block", 0, uint64(first), w, int(r.blockSize), wanted); err != nil {
		return nil, err
	}
	if len(r.windows) == maxWindows {
		clear(r.windows)
	}
	r.windows[i] = w
	return w, nil
}
