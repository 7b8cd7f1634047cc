package verity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// CorruptError says which block of a volume is not what the tree, or the tree's root hash, says it is.
type CorruptError struct {
	Part   string // "data block", "hash block of level N" or "root hash"
	Block  uint64 // number within the part
	Offset int64  // in bytes, from the start of the volume
	Got    [DigestSize]byte
	Want   [DigestSize]byte
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s %d at offset %d is corrupted: its sha256 is %x, the tree says %x",
		e.Part, e.Block, e.Offset, e.Got, e.Want)
}

// checkChunk is how many bytes one goroutine reads and hashes at a time.
const checkChunk = 1 << 20

// Check reads the whole volume r and returns nil if its tree fits its data and its root hash. It looks at the tree from
// its top down and then at the data, and returns a *CorruptError for the first bad block in that order.
func Check(ctx context.Context, r io.ReaderAt, p Params, root [DigestSize]byte, progress func(bytes int64)) error {
	if err := p.check(); err != nil {
		return err
	}
	c := checker{r: r, progress: progress}
	if err := c.tree(ctx, p, root); err != nil {
		return err
	}
	want := constant(root) // of a single data block
	if p.DataBlocks > 1 {
		want = digestsAt(r, levelOffsets(p.DataBlocks, int64(p.TreeOffset()))[0])
	}
	return c.area(ctx, "data block", 0, p.DataBlocks, int64(p.DataBlockSize), want)
}

// tree checks the levels of the tree, from the top down.
func (c *checker) tree(ctx context.Context, p Params, root [DigestSize]byte) error {
	offsets := levelOffsets(p.DataBlocks, int64(p.TreeOffset()))
	levels := levelBlocks(p.DataBlocks)
	want := constant(root)
	for i := len(levels) - 1; i >= 0; i-- {
		part := fmt.Sprintf("hash block of level %d", i)
		if err := c.area(ctx, part, offsets[i], levels[i], HashBlockSize, want); err != nil {
			return err
		}
		want = digestsAt(c.r, offsets[i])
	}
	return nil
}

// ComputeRoot returns the root hash that the tree's top block gives, without looking below it.
func ComputeRoot(r io.ReaderAt, p Params) (root [DigestSize]byte, err error) {
	if err := p.check(); err != nil {
		return root, err
	}
	offset, size := int64(p.TreeOffset()), int64(HashBlockSize)
	if p.DataBlocks == 1 {
		offset, size = 0, int64(p.DataBlockSize)
	}
	b := make([]byte, size)
	if err := readFull(r, b, offset); err != nil {
		return root, fmt.Errorf("top block of the verity tree: %w", err)
	}
	return sha256.Sum256(b), nil
}

// digests returns the n digests that blocks first, first+1, … ought to have.
type digests func(first uint64, n int) ([]byte, error)

func constant(root [DigestSize]byte) digests {
	return func(uint64, int) ([]byte, error) { return root[:], nil }
}

func digestsAt(r io.ReaderAt, offset int64) digests {
	return func(first uint64, n int) ([]byte, error) {
		b := make([]byte, n*DigestSize)
		return b, readFull(r, b, offset+int64(first)*DigestSize)
	}
}

func readFull(r io.ReaderAt, b []byte, offset int64) error {
	n, err := r.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%d bytes at offset %d: %w", len(b), offset, err)
}

type checker struct {
	r        io.ReaderAt
	progress func(int64)
}

// area checks the count blocks of size bytes that start at offset, in parallel, and returns the error of the first bad
// one.
func (c *checker) area(ctx context.Context, part string, offset int64, count uint64, size int64, want digests) error {
	perChunk := uint64(checkChunk / size)
	workers := uint64(runtime.GOMAXPROCS(0))
	for first := uint64(0); first < count; {
		var g errgroup.Group
		errs := make([]error, workers) // in the order of the blocks, so that the first one wins
		start := first
		for i := range errs {
			n := min(perChunk, count-first)
			if n == 0 {
				break
			}
			from := first
			g.Go(func() error {
				errs[i] = c.chunk(part, offset, from, int(n), size, want)
				return nil
			})
			first += n
		}
		_ = g.Wait() // the goroutines report through errs
		if err := errors.Join(firstOf(errs), ctx.Err()); err != nil {
			return err
		}
		if c.progress != nil {
			c.progress(int64(first-start) * size)
		}
	}
	return nil
}

func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) chunk(part string, offset int64, first uint64, n int, size int64, want digests) error {
	wanted, err := want(first, n)
	if err != nil {
		return fmt.Errorf("verity tree: %w", err)
	}
	b := make([]byte, int64(n)*size)
	if err := readFull(c.r, b, offset+int64(first)*size); err != nil {
		return fmt.Errorf("%s %d: %w", part, first, err)
	}
	return compare(part, offset, first, b, int(size), wanted)
}

// compare returns the error of the first of data's blocks that does not have its digest. The area's block 0 is at
// offset of the volume; first is the number of data's first block.
func compare(part string, offset int64, first uint64, data []byte, size int, wanted []byte) error {
	got := make([]byte, len(data)/size*DigestSize)
	Digests(got, data, size)
	if bytes.Equal(got, wanted) {
		return nil
	}
	for i := 0; ; i += DigestSize {
		if g, w := [DigestSize]byte(got[i:]), [DigestSize]byte(wanted[i:]); g != w {
			block := first + uint64(i/DigestSize)
			return &CorruptError{Part: part, Block: block, Offset: offset + int64(block)*int64(size), Got: g, Want: w}
		}
	}
}
