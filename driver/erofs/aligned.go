package erofs

import (
	"archive/tar"
	"fmt"
	"hash/maphash"
	"io"
)

// MaxShared is the size of the largest files, in bytes, of which equal ones share their blocks. They are looked at before
// they are placed, so as much must be in memory.
const MaxShared = 64 << 10

// The content of the first tiny files is kept: in trees of packages most of the files that are equal are a few lines,
// again and again, and comparing these is a tenth of the work of hashing a block for DataWriter.Same.
const (
	tinyFile = 256 // bytes
	maxTiny  = 256 << 10
)

// DataWriter takes an image's file data, which follows the first block, and knows what it has taken. If it is an
// io.ReaderFrom, the data of large files is read straight into it.
type DataWriter interface {
	io.Writer

	// Room returns room for n bytes, MaxShared at most. With Advance they become the next ones of the data.
	Room(n int) []byte

	// Advance takes the first n bytes of the Room.
	Advance(n int) error

	// Same says whether the image has these whole blocks from this block on. All of them were taken before.
	Same(block uint32, blocks []byte) (bool, error)
}

// alignedData writes each file to blocks of its own, unless it is small and equal to one that has blocks.
type alignedData struct {
	w      DataWriter
	blocks uint64 // written or reserved so far, block 0 included
	memory *memory
	hash   func([]byte) uint64
	small  map[uint64]smallFile // by hash
	tiny   map[uint32]string    // the content of some of them, by block
	kept   int                  // bytes of these
}

// smallFile is one that has blocks of its own.
type smallFile struct {
	block uint32
	size  uint32
}

// newHash returns a hash of which nobody knows beforehand what collides.
func newHash() func([]byte) uint64 {
	seed := maphash.MakeSeed()
	return func(b []byte) uint64 { return maphash.Bytes(seed, b) }
}

func (a *alignedData) place(n *node, _ *tar.Header, data io.Reader) error {
	if n.size <= MaxShared {
		return a.placeSmall(n, data)
	}
	blocks, err := a.take(n)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(a.w, data, int64(n.size)); err != nil {
		return dataError(n, err)
	}
	return writeZeros(a.w, int(blocks*BlockSize-n.size))
}

// placeSmall reads a file's data to where it would belong, and leaves it there if no earlier file is equal.
func (a *alignedData) placeSmall(n *node, data io.Reader) error {
	room := a.w.Room(int((n.size + BlockSize - 1) &^ (BlockSize - 1)))
	if _, err := io.ReadFull(data, room[:n.size]); err != nil {
		return dataError(n, err)
	}
	clear(room[n.size:])
	free, equal, err := a.find(n, room)
	if err != nil || equal {
		return err
	}
	if err := a.memory.take(smallFileMemory); err != nil {
		return err
	}
	if _, err := a.take(n); err != nil {
		return err
	}
	a.small[free] = smallFile{block: n.block, size: uint32(n.size)}
	if n.size <= tinyFile && a.kept < maxTiny {
		a.tiny[n.block] = string(room[:n.size])
		a.kept += int(n.size)
	}
	return a.w.Advance(len(room))
}

// find gives n the block of an equal file. If there is none, it returns under which hash n is to be noted. A hash says
// nothing: files that have the same one are under that and the following numbers.
func (a *alignedData) find(n *node, data []byte) (free uint64, equal bool, err error) {
	for hash := a.hash(data[:n.size]); ; hash++ {
		f, ok := a.small[hash]
		if !ok {
			return hash, false, nil
		}
		if uint64(f.size) != n.size {
			continue
		}
		content, kept := a.tiny[f.block]
		equal := content == string(data[:n.size])
		if !kept {
			if equal, err = a.w.Same(f.block, data); err != nil {
				return 0, false, fmt.Errorf("compare with the file at block %d: %w", f.block, err)
			}
		}
		if equal {
			n.block = f.block
			return 0, true, nil
		}
	}
}

// take gives n the next blocks and returns how many.
func (a *alignedData) take(n *node) (blocks uint64, err error) {
	blocks = (n.size-1)/BlockSize + 1
	if a.blocks+blocks > maxBlocks {
		return 0, fmt.Errorf("file of %d bytes makes the layer larger than the 16 TiB that an image can have", n.size)
	}
	n.block = uint32(a.blocks)
	a.blocks += blocks
	return blocks, nil
}

func dataError(n *node, err error) error {
	return fmt.Errorf("data of %d bytes: %w", n.size, noEOF(err))
}
