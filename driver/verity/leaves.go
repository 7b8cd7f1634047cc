package verity

// Leaves holds the digests of a volume's data blocks, in order. The zero value is empty and ready to use.
type Leaves struct {
	segments [][]byte
	blocks   uint64
}

// Grow appends room for the digests of the next blocks data blocks and returns it, to be filled before WriteTree, by
// any goroutine.
func (l *Leaves) Grow(blocks int) []byte {
	segment := make([]byte, blocks*DigestSize)
	l.segments = append(l.segments, segment)
	l.blocks += uint64(blocks)
	return segment
}

// Blocks returns the number of data blocks.
func (l *Leaves) Blocks() uint64 { return l.blocks }
