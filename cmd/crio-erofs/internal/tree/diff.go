package tree

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// Change is what became of a path.
type Change struct {
	Path string
	Old  *Node    // nil: added
	New  *Node    // nil: deleted
	What []string // of one that is in both: what of it differs, see Aspects
}

// Aspects are what of a file can differ. Names below a directory are changes of their own.
var Aspects = []string{"type", "mode", "owner", "size", "mtime", "target", "device", "xattrs", "content"}

// Diff calls found for every path that is not the same in both trees, in the order of names, whatever ignore names left
// aside. progress is told how many bytes were compared.
func Diff(ctx context.Context, a, b *Stack, ignore []string, progress func(int64), found func(Change) error) error {
	d := &differ{ctx: ctx, a: a, b: b, ignore: ignore, progress: progress, found: found}
	rootA, err := a.Root()
	if err != nil {
		return err
	}
	rootB, err := b.Root()
	if err != nil {
		return err
	}
	return d.compare("/", rootA, rootB)
}

type differ struct {
	ctx      context.Context
	a, b     *Stack
	ignore   []string
	progress func(int64)
	found    func(Change) error

	inA, inB descent
}

func (d *differ) compare(at string, a, b *Node) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	what, err := d.differences(a, b)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	what = slices.DeleteFunc(what, func(aspect string) bool { return slices.Contains(d.ignore, aspect) })
	if len(what) > 0 {
		if err := d.found(Change{Path: at, Old: a, New: b, What: what}); err != nil {
			return err
		}
	}
	return d.compareChildren(at, a, b)
}

func (d *differ) compareChildren(at string, a, b *Node) error {
	inA, err := children(d.a, a, &d.inA)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	defer d.inA.leave()
	inB, err := children(d.b, b, &d.inB)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	defer d.inB.leave()
	all := maps.Clone(inA)
	maps.Copy(all, inB)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		sub, childA, childB := path.Join(at, name), inA[name], inB[name]
		switch {
		case childA == nil:
			err = d.b.walk(sub, childB, func(p string, n *Node) error { return d.found(Change{Path: p, New: n}) }, &d.inB)
		case childB == nil:
			err = d.a.walk(sub, childA, func(p string, n *Node) error { return d.found(Change{Path: p, Old: n}) }, &d.inA)
		default:
			err = d.compare(sub, childA, childB)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// children returns what is in a directory; nothing, if n is none. Each call is to be followed by d.leave.
func children(s *Stack, n *Node, d *descent) (map[string]*Node, error) {
	byName := map[string]*Node{}
	if !n.IsDir() {
		d.depth++
		return byName, nil
	}
	if err := d.enter(n); err != nil {
		return nil, err
	}
	nodes, err := s.ReadDir(n)
	for _, child := range nodes {
		byName[child.name] = child
	}
	return byName, err
}

// differences returns in which aspects two files of one name differ.
func (d *differ) differences(a, b *Node) (what []string, err error) {
	add := func(aspect string, differs bool) {
		if differs {
			what = append(what, aspect)
		}
	}
	const permissions = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	add("type", a.Mode().Type() != b.Mode().Type())
	add("mode", a.Mode()&permissions != b.Mode()&permissions)
	add("owner", a.UID() != b.UID() || a.GID() != b.GID())
	add("mtime", !a.ModTime().Equal(b.ModTime()))
	add("xattrs", !maps.Equal(a.Xattrs(), b.Xattrs()))
	if a.Mode().Type() != b.Mode().Type() {
		return what, nil
	}
	switch {
	case a.Mode().IsRegular():
		add("size", a.Size() != b.Size())
		same := a.Size() == b.Size()
		if same && !slices.Contains(d.ignore, "content") {
			same, err = d.sameContent(a, b)
		}
		add("content", !same)
	case a.Mode()&fs.ModeSymlink != 0:
		var targetA, targetB string
		if targetA, err = a.Target(); err == nil {
			targetB, err = b.Target()
		}
		add("target", targetA != targetB)
	default:
		add("device", a.Device() != b.Device())
	}
	return what, err
}

// sameContent compares two files of one size.
func (d *differ) sameContent(a, b *Node) (bool, error) {
	fileA, err := a.Open()
	if err != nil {
		return false, err
	}
	defer fileA.Close()
	fileB, err := b.Open()
	if err != nil {
		return false, err
	}
	defer fileB.Close()
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for left := a.Size(); left > 0; {
		n := int(min(left, int64(len(bufA))))
		if _, err := io.ReadFull(fileA, bufA[:n]); err != nil {
			return false, err
		}
		if _, err := io.ReadFull(fileB, bufB[:n]); err != nil {
			return false, err
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			return false, nil
		}
		left -= int64(n)
		d.progress(int64(n))
		if err := d.ctx.Err(); err != nil {
			return false, err
		}
	}
	return true, nil
}

// CheckAspects refuses what is none of Aspects.
func CheckAspects(names []string) error {
	for _, name := range names {
		if !slices.Contains(Aspects, name) {
			return fmt.Errorf("%q is nothing that differs: want some of %s", name, strings.Join(Aspects, ", "))
		}
	}
	return nil
}
