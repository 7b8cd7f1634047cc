package volume

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// slabSize is how much of the tar is read at a time.
const slabSize = 256 << 10

// input reads the tar in large pieces, has them hashed by another goroutine on the way, and tells how far it is. close
// must be called.
type input struct {
	r        io.Reader
	progress func(int64) // may be nil
	n, told  int64
	err      error // what r ended with

	present *slab  // nil before the first
	rest    []byte // of it, not yet read
	free    chan *slab

	hash   chan *slab             // nil: no digest is wanted, or all is on its way
	digest chan [sha256.Size]byte // gets the digest when hash is closed; nil: it is not wanted
}

// slab is a piece of the tar. Who makes the volume and who computes the digest use it at the same time.
type slab struct {
	data  []byte
	users atomic.Int32
}

func newInput(r io.Reader, digest bool, progress func(int64)) *input {
	in := &input{r: r, progress: progress}
	slabs := 1
	if digest {
		slabs = 8
		in.hash, in.digest = make(chan *slab, slabs), make(chan [sha256.Size]byte, 1)
		go in.compute(in.hash)
	}
	in.free = make(chan *slab, slabs)
	for range slabs {
		in.free <- &slab{}
	}
	return in
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
		in.done(in.present)
		in.present = nil
	}
	if in.err != nil {
		return in.err
	}
	s := <-in.free
	if s.data == nil {
		s.data = make([]byte, slabSize)
	}
	s.data = s.data[:slabSize]
	n := 0
	for n < slabSize && in.err == nil {
		var k int
		k, in.err = in.r.Read(s.data[n:])
		n += k
	}
	s.data = s.data[:n]
	in.tell(n)
	s.users.Store(1)
	if in.hash != nil {
		s.users.Store(2)
		in.hash <- s
	}
	in.present, in.rest = s, s.data
	if n == 0 {
		return in.err
	}
	return nil
}

// done says that one of its users does not need a slab any longer.
func (in *input) done(s *slab) {
	if s.users.Add(-1) == 0 {
		in.free <- s
	}
}

func (in *input) tell(n int) {
	in.n += int64(n)
	const step = 8 << 20
	if in.progress != nil && (in.n-in.told >= step || errors.Is(in.err, io.EOF)) {
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
	in.close()
	sum := <-in.digest
	in.digest <- sum // for the next one who asks
	return sum
}

// close ends the digest's goroutine.
func (in *input) close() {
	if in.hash != nil {
		close(in.hash)
		in.hash = nil
	}
}
