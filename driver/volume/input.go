package volume

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// slabSize is how much of the tar is read at a time.
const slabSize = 256 << 10

// slabs is how many pieces of the tar there are at a time.
const slabs = 8

// input reads the tar in large pieces, ahead of who makes the volume, has them hashed on the way, and tells how far it
// is. Reading ahead matters where the tar comes through a pipe, as from containers/storage, which computes digests of its
// own: both sides work at the same time. close must be called.
type input struct {
	r        io.Reader
	progress func(int64) // may be nil
	n, told  int64

	present *slab  // nil before the first
	rest    []byte // of it, not yet read
	free    chan *slab
	full    chan *slab
	stop    chan struct{} // closed by close
	reader  sync.WaitGroup

	hash   chan *slab             // nil: no digest is wanted
	digest chan [sha256.Size]byte // gets the digest when hash is closed; nil: it is not wanted
}

// slab is a piece of the tar. Who makes the volume and who computes the digest use it at the same time.
type slab struct {
	data  []byte
	err   error // with which the tar ended behind it
	users atomic.Int32
}

func newInput(r io.Reader, digest bool, progress func(int64)) *input {
	in := &input{r: r, progress: progress, free: make(chan *slab, slabs), full: make(chan *slab, slabs), stop: make(chan struct{})}
	if digest {
		in.hash, in.digest = make(chan *slab, slabs), make(chan [sha256.Size]byte, 1)
		go in.compute(in.hash)
	}
	for range slabs {
		in.free <- &slab{}
	}
	in.reader.Go(func() { in.read(in.hash) })
	return in
}

// read reads the tar to its end, or until close is called. No channel that it sends to is ever full.
func (in *input) read(hash chan<- *slab) {
	var err error
	for err == nil {
		var s *slab
		select {
		case s = <-in.free:
		case <-in.stop:
			return
		}
		if s.data == nil {
			s.data = make([]byte, slabSize)
		}
		err = in.fill(s)
		s.users.Store(1)
		if hash != nil {
			s.users.Store(2)
			hash <- s
		}
		in.full <- s
	}
}

func (in *input) fill(s *slab) error {
	n := 0
	s.data, s.err = s.data[:slabSize], nil
	for n < slabSize && s.err == nil {
		select {
		case <-in.stop:
			return io.ErrClosedPipe // nobody sees it
		default:
		}
		var k int
		k, s.err = in.r.Read(s.data[n:])
		n += k
	}
	s.data = s.data[:n]
	return s.err
}

func (in *input) Read(p []byte) (int, error) {
	if len(in.rest) == 0 {
		if err := in.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// next makes the next piece the present one.
func (in *input) next() error {
	if in.present != nil {
		if in.present.err != nil {
			return in.present.err
		}
		in.done(in.present)
	}
	in.present = <-in.full
	in.rest = in.present.data
	in.tell()
	if len(in.rest) == 0 {
		return in.present.err
	}
	return nil
}

// done says that one of its users does not need a slab any longer.
func (in *input) done(s *slab) {
	if s.users.Add(-1) == 0 {
		in.free <- s
	}
}

func (in *input) tell() {
	in.n += int64(len(in.rest))
	const step = 8 << 20
	if in.progress != nil && (in.n-in.told >= step || errors.Is(in.present.err, io.EOF)) {
		in.told = in.n
		in.progress(in.n)
	}
}

// drain reads what stands behind the end of the archive: it counts for the digest, and a compressed stream has its
// checksum there.
func (in *input) drain() error {
	if _, err := io.Copy(io.Discard, in); err != nil {
		return fmt.Errorf("layer tar: behind the end of the archive: %w", err)
	}
	return nil
}

// compute computes the digest of slabs.
func (in *input) compute(slabs <-chan *slab) {
	sum := sha256.New()
	for s := range slabs {
		sum.Write(s.data) // never fails
		in.done(s)
	}
	in.digest <- [sha256.Size]byte(sum.Sum(nil))
}

// sum returns the digest of everything. The input must have been read to its end.
func (in *input) sum() [sha256.Size]byte {
	in.close(nil)
	sum := <-in.digest
	in.digest <- sum // for the next one who asks
	return sum
}

// close ends the goroutines; cause is why before the end of the tar. One may be waiting for a source that stands still: a
// pipe, as from containers/storage, is closed, and who writes to it learns the cause. With other readers close waits
// until something was read, for nobody may use them any longer then.
func (in *input) close(cause error) {
	select {
	case <-in.stop:
		return
	default:
	}
	close(in.stop)
	if pipe, ok := in.r.(*io.PipeReader); ok && cause != nil {
		_ = pipe.CloseWithError(cause) // always nil
	}
	in.reader.Wait()
	if in.hash != nil {
		close(in.hash)
	}
}
