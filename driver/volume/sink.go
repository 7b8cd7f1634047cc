package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/crio-erofs/crio-erofs/driver/erofs"
	"github.com/crio-erofs/crio-erofs/driver/verity"
)

const (
	blockSize = erofs.BlockSize

	// chunkSize is how much is hashed and written at a time by one goroutine. What has been read is still in the
	// processor's caches then; with 1 MiB, building takes a tenth more processor time.
	chunkSize = 256 << 10

	// maxWorkers bounds the memory for buffers: no stream can be read so fast that more would have something to do.
	maxWorkers = 8

	// writebackSize is how much of the stream lies between two hints to write to the disk what came before.
	writebackSize = 8 << 20

	// holeSize is how much of zeros, in one piece, is left out of the file.
	holeSize = 64 << 10
)

var zeros [holeSize]byte

// sink writes a stream to a file, block after block, and hashes the blocks on the way. The stream's goroutine fills
// buffers; others hash them, and it does so itself when they have enough to do. One goroutine writes them all, since
// writers of one file would only wait for each other: the kernel lets one in at a time. Long runs of zeros become holes;
// the file must not have had other bytes there.
type sink struct {
	out    io.WriterAt
	leaves *verity.Leaves // nil: do not hash
	block  int            // size of the blocks that are hashed, in bytes
	buf    *chunk         // being filled, and not full
	chunks []*chunk       // all that there are
	free   chan *chunk
	jobs   chan job // to be hashed
	writes chan job
	wg     sync.WaitGroup // of who hashes
	writer sync.WaitGroup
	mu     sync.Mutex
	err    error // the first one
}

// chunk is a piece of the stream. Only the stream's goroutine changes it, before it is flushed: it keeps its content until
// it is free and that goroutine takes it for another piece.
type chunk struct {
	data []byte // cap chunkSize
	pos  int64  // where it belongs in the file
}

func (c *chunk) end() int64 { return c.pos + int64(len(c.data)) }

type job struct {
	*chunk
	leaves    *verity.Segment
	writeback bool // the piece of writebackSize before pos has been written, or nearly
}

// newSink returns a sink whose stream starts at pos of out and is hashed in blocks of this size. close must be called.
func newSink(out io.WriterAt, pos int64, leaves *verity.Leaves, block int) *sink {
	workers := min(max(1, runtime.GOMAXPROCS(0)-1), maxWorkers)
	waiting := 2 * workers
	s := &sink{out: out, leaves: leaves, block: block, jobs: make(chan job, waiting), writes: make(chan job, waiting)}
	s.free = make(chan *chunk, 2*waiting+workers+2) // one is being written, and one being filled
	for range cap(s.free) {
		s.free <- nil // made when it is needed: most streams are short
	}
	s.next(pos)
	for range workers {
		s.wg.Go(s.work)
	}
	s.writer.Go(s.write)
	return s
}

// next has an empty chunk filled, which belongs at pos.
func (s *sink) next(pos int64) {
	if s.buf = <-s.free; s.buf == nil {
		s.buf = &chunk{data: make([]byte, 0, chunkSize)}
		s.chunks = append(s.chunks, s.buf)
	}
	s.buf.data, s.buf.pos = s.buf.data[:0], pos
}

func (s *sink) work() {
	for j := range s.jobs {
		s.hash(j)
	}
}

// hash hashes a buffer, and hands it on to be written.
func (s *sink) hash(j job) {
	if s.leaves != nil {
		verity.Digests(j.leaves.Digests, j.data, s.block)
		if err := j.leaves.Done(); err != nil {
			s.fail(err)
		}
	}
	s.writes <- j
}

func (s *sink) write() {
	for j := range s.writes {
		if err := writeSparse(s.out, j.data, j.pos); err != nil {
			s.fail(err)
		}
		if j.writeback {
			startWriteback(s.out, max(0, j.pos-writebackSize), writebackSize)
		}
		s.free <- j.chunk
	}
}

func (s *sink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *sink) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// writeSparse writes data at pos but for zeros that fill a whole piece of holeSize.
func writeSparse(w io.WriterAt, data []byte, pos int64) error {
	start := 0
	write := func(end int) error {
		if end == start {
			return nil
		}
		_, err := w.WriteAt(data[start:end], pos+int64(start))
		return err
	}
	for i := 0; i+holeSize <= len(data); i += holeSize {
		if !bytes.Equal(data[i:i+holeSize], zeros[:]) {
			continue
		}
		if err := write(i); err != nil {
			return err
		}
		start = i + holeSize
	}
	return write(len(data))
}

// flush has the buffer hashed and written.
func (s *sink) flush() error {
	if len(s.buf.data) == 0 {
		return nil
	}
	if err := s.failed(); err != nil {
		return err
	}
	j := job{chunk: s.buf}
	if s.leaves != nil {
		var err error
		if j.leaves, err = s.leaves.Grow(len(j.data) / s.block); err != nil {
			return err
		}
	}
	end := j.end()
	j.writeback = j.pos/writebackSize != end/writebackSize
	select {
	case s.jobs <- j:
	default:
		s.hash(j)
	}
	s.next(end)
	return nil
}

// room returns the rest of the buffer.
func (s *sink) room() []byte { return s.buf.data[len(s.buf.data):cap(s.buf.data)] }

// advance makes the first n bytes of the room part of the stream.
func (s *sink) advance(n int) error {
	s.buf.data = s.buf.data[:len(s.buf.data)+n]
	if len(s.buf.data) < cap(s.buf.data) {
		return nil
	}
	return s.flush()
}

func (s *sink) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := copy(s.room(), p)
		p, n = p[k:], n+k
		if err := s.advance(k); err != nil {
			return n, err
		}
	}
	return n, nil
}

// ReadFrom reads r to its end, straight into the buffers.
func (s *sink) ReadFrom(r io.Reader) (n int64, err error) {
	for {
		k, err := r.Read(s.room())
		n += int64(k)
		if err := s.advance(k); err != nil {
			return n, err
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// close waits until everything is hashed and written, and returns where the stream ended.
func (s *sink) close() (end int64, err error) {
	if tail := len(s.buf.data) % s.block; tail != 0 {
		s.fail(fmt.Errorf("stream ends %d bytes into a block", tail))
	}
	err = s.flush()
	close(s.jobs)
	s.wg.Wait()
	close(s.writes)
	s.writer.Wait()
	return s.buf.pos, errors.Join(err, s.failedOther(err))
}

// failedOther returns the workers' error unless it is err itself.
func (s *sink) failedOther(err error) error {
	if other := s.failed(); !errors.Is(err, other) {
		return other
	}
	return nil
}
