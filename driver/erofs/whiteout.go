package erofs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Names with which layers delete what is below them (OCI image-spec, layer.md, "Whiteouts").
const (
	whiteoutPrefix     = ".wh."
	whiteoutMetaPrefix = ".wh..wh." // AUFS's own files, of which only the next one means something
	whiteoutOpaque     = ".wh..wh..opq"
)

// deletion is a whiteout of a name in a directory, or of all that is below it: an opaque directory.
type deletion struct {
	dir    []string
	name   string
	opaque bool
}

// parseWhiteout returns the deletion that the entry named base in dir stands for.
func parseWhiteout(dir []string, base string) (deletion, error) {
	d := deletion{dir: make([]string, len(dir)), opaque: base == whiteoutOpaque}
	for i, part := range dir {
		d.dir[i] = strings.Clone(part)
	}
	if d.opaque {
		return d, nil
	}
	d.name = strings.Clone(strings.TrimPrefix(base, whiteoutPrefix))
	if d.name == "" || d.name == "." || d.name == ".." {
		return deletion{}, fmt.Errorf("whiteout of %q, which is no name", d.name)
	}
	return d, nil
}

// memory returns about what a deletion takes in memory.
func (d *deletion) memory() int {
	size := entryMemory + len(d.name)
	for _, part := range d.dir {
		size += partMemory + len(part)
	}
	return size
}

// delete puts the layer's deletions into its tree in the form that overlayfs understands: a character device 0:0 where
// the layer has nothing of that name itself, an opaque directory where it has a directory.
//
// Deletions concern the layers below only, wherever they stand in the tar. So they come last, and a deletion below
// something that is itself deleted, replaced or opaque does nothing. Image builders do write such: after rm -rf a/b,
// both .wh.a and a/.wh.b.
func (t *tree) delete(deletions []deletion) error {
	// From the root down; of one directory, that it is opaque first.
	slices.SortStableFunc(deletions, func(a, b deletion) int {
		return cmp.Or(cmp.Compare(len(a.dir), len(b.dir)), cmp.Compare(a.rank(), b.rank()))
	})
	for _, d := range deletions {
		dir, err := t.uncovered(d.dir)
		if err != nil {
			return fmt.Errorf("whiteout in %s: %w", quote(strings.Join(d.dir, "/")), err)
		}
		switch {
		case dir == nil:
		case d.opaque:
			dir.setXattr(opaqueXattr)
		case !dir.covers():
			err = t.whiteOut(dir, d.name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *deletion) rank() int {
	if d.opaque {
		return 0
	}
	return 1
}

// covers says whether nothing of the layers below shows through a directory. overlayfs merges the roots of all layers,
// opaque or not (ovl_get_root).
func (n *node) covers() bool { return hasOpaque(n) && n.parent != n }

func (t *tree) whiteOut(dir *node, name string) error {
	switch n := dir.children[name]; {
	case n == nil:
		return t.put(dir, name, &node{mode: modeCharDev})
	case n.isDir():
		n.setXattr(opaqueXattr)
	}
	return nil
}

// uncovered returns the directory at parts, made if it is missing, or nil if the layer covers what the layers below
// have there: with an opaque directory on the way, or with something that is no directory.
func (t *tree) uncovered(parts []string) (*node, error) {
	dir := t.root
	for _, name := range parts {
		if dir.covers() {
			return nil, nil
		}
		next := dir.children[name]
		if next == nil {
			next = newDirectory()
			if err := t.put(dir, name, next); err != nil {
				return nil, err
			}
		}
		if !next.isDir() {
			return nil, nil
		}
		dir = next
	}
	return dir, nil
}
