package erofs

import "fmt"

// maxMemory bounds what a tree takes in memory, in bytes: three million files with names of 50 bytes. A layer of a few
// megabytes, compressed, can have more names and attributes than fit any machine.
var maxMemory int64 = 1 << 30

// What things take in memory, garbage of growing maps and slices included, rather too much than too little:
const (
	entryMemory     = 300 // node, its name's place in a map, in lists and in the metadata
	directoryMemory = 350 // a map
	xattrMemory     = 80
	apartMemory     = 3 * TarfsBlockSize
	partMemory      = 48 // a component of a path
	smallFileMemory = 48 // its place in a map
)

// memory counts what a tree takes.
type memory struct{ used int64 }

// take counts further bytes.
func (m *memory) take(n int) error {
	if m.used += int64(n); m.used > maxMemory {
		return fmt.Errorf("names, attributes and link targets up to here need more than %d MiB of memory: "+
			"split the layer, or put many small files into an archive", maxMemory>>20)
	}
	return nil
}

// takeName counts a name of a node, a directory's with all that belongs to one.
func (m *memory) takeName(name string, n *node) error {
	size := entryMemory + len(name)
	if n.isDir() {
		size += directoryMemory
	}
	return m.take(size)
}

// takeContent counts what a node has of variable length.
func (m *memory) takeContent(n *node) error {
	size := len(n.target)
	for _, x := range n.xattrs {
		size += xattrMemory + len(x.name) + len(x.value)
	}
	return m.take(size)
}
