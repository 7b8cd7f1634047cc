package corpus_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/tree"
)

func isDir(e tree.Entry) bool { return e.Mode&unix.S_IFMT == unix.S_IFDIR }

// union is what a stack of layers shows: the type of each path, as in a tar. It knows just enough to let the next layer
// delete only what is there: an overlay shows a whiteout of nothing as a device in some places, and nobody makes one.
type union map[string]byte

// remove takes a path and everything below it away.
func (u union) remove(name string) {
	maps.DeleteFunc(u, func(other string, _ byte) bool { return other == name || strings.HasPrefix(other, name+"/") })
}

// below returns the paths in a folder, sorted.
func (u union) below(dir string) []string {
	var names []string
	for name := range u {
		if strings.HasPrefix(name, dir+"/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// layerMaker makes a random layer on top of a union.
type layerMaker struct {
	t     *testing.T
	rng   *rand.Rand
	lower union           // before this layer
	now   union           // with it
	own   map[string]byte // this layer's: types as in a tar, 'w' for whiteouts, 'o' for opaque directories
	out   *tar.Writer
}

// randomLayers returns the tars of 2 to 8 layers, the lowest first.
func randomLayers(t *testing.T, seed uint64) [][]byte {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 2))
	now := union{}
	var tars [][]byte
	for range 2 + rng.IntN(7) {
		var b bytes.Buffer
		m := &layerMaker{t: t, rng: rng, lower: maps.Clone(now), now: now, own: map[string]byte{}, out: tar.NewWriter(&b)}
		for range 2 + rng.IntN(25) {
			m.step()
		}
		if err := m.out.Close(); err != nil {
			t.Fatal(err)
		}
		tars = append(tars, b.Bytes())
	}
	return tars
}

// step adds something to the layer.
func (m *layerMaker) step() {
	name := m.path()
	switch kind := "ffffddllhhhcpwwwwoox"[m.rng.IntN(20)]; kind {
	case 'f':
		m.add(name, tar.TypeReg, "")
	case 'd':
		m.add(name, tar.TypeDir, "")
	case 'l':
		m.add(name, tar.TypeSymlink, fmt.Sprint("to-", m.rng.IntN(9)))
	case 'c':
		m.add(name, tar.TypeChar, "")
	case 'p':
		m.add(name, tar.TypeFifo, "")
	case 'h':
		if target, ok := m.pick(func(p string, k byte) bool { return k == tar.TypeReg || k == tar.TypeSymlink }); ok {
			m.add(name, tar.TypeLink, target)
		}
	case 'w':
		m.whiteout()
	case 'o':
		m.opaque()
	case 'x': // metadata of a directory that is there, and nothing in it
		if dir, ok := pick(m.rng, m.now, func(_ string, k byte) bool { return k == tar.TypeDir }); ok {
			m.add(dir, tar.TypeDir, "")
		}
	}
}

// path returns a random path; names are few, so that layers have much to do with each other.
func (m *layerMaker) path() string {
	parts := make([]string, 1+m.rng.IntN(4))
	for i := range parts {
		parts[i] = string("abcd"[m.rng.IntN(4)])
	}
	return strings.Join(parts, "/")
}

// pick returns a random path of this layer, or of a union, that suits.
func (m *layerMaker) pick(suits func(string, byte) bool) (string, bool) {
	return pick(m.rng, m.own, suits)
}

func pick(rng *rand.Rand, from map[string]byte, suits func(string, byte) bool) (string, bool) {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if suits(name, from[name]) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", false
	}
	return names[rng.IntN(len(names))], true
}

// free says whether this layer has nothing at name, and nothing but directories on the way to it.
func (m *layerMaker) free(name string) bool {
	if k, ok := m.own[name]; ok && k != tar.TypeDir && k != 'o' {
		return false
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if k, ok := m.own[dir]; ok && k != tar.TypeDir && k != 'o' {
			return false
		}
	}
	return true
}

// add adds an entry, and the directories on the way to it in what the union shows.
func (m *layerMaker) add(name string, kind byte, target string) {
	_, there := m.own[name]
	if !m.free(name) || there && kind != tar.TypeDir {
		return
	}
	hdr := &tar.Header{
		Typeflag: kind, Name: name, Linkname: target, Mode: int64(0o600 + m.rng.IntN(0o200)), Uid: m.rng.IntN(3),
		ModTime: time.Unix(int64(1600000000+m.rng.IntN(100)), 0), Devmajor: 1, Devminor: 3, Format: tar.FormatPAX,
	}
	if kind != tar.TypeLink && kind != tar.TypeSymlink && m.rng.IntN(3) == 0 {
		hdr.PAXRecords = map[string]string{"SCHILY.xattr.trusted.x": name}
	}
	if kind != tar.TypeChar {
		hdr.Devmajor, hdr.Devminor = 0, 0
	}
	var data []byte
	if kind == tar.TypeReg {
		data = bytes.Repeat([]byte(name), m.rng.IntN(5000))
	}
	m.write(hdr, data)
	m.implied(name)
	if kind != tar.TypeDir || m.now[name] != tar.TypeDir {
		m.now.remove(name)
	}
	if kind == tar.TypeLink {
		kind = m.own[target]
	}
	m.now[name] = kind
	if m.own[name] != 'o' {
		m.own[name] = kind
	}
}

// implied notes the directories on the way to name.
func (m *layerMaker) implied(name string) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, ok := m.own[dir]; !ok {
			m.own[dir] = tar.TypeDir
		}
		if m.now[dir] != tar.TypeDir {
			m.now.remove(dir)
			m.now[dir] = tar.TypeDir
		}
	}
}

// merges says whether a directory of this layer is one with a directory of the layers below: only there an overlay
// understands whiteouts.
func (m *layerMaker) merges(dir string) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		if m.lower[dir] != tar.TypeDir || m.own[dir] == 'o' {
			return false
		}
	}
	return true
}

// whiteout deletes something that the layers below have and this one has not touched.
func (m *layerMaker) whiteout() {
	name, ok := pick(m.rng, m.lower, func(name string, _ byte) bool {
		_, touched := m.own[name]
		return !touched && m.free(name) && m.merges(path.Dir(name))
	})
	if !ok {
		return
	}
	m.write(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(path.Dir(name), ".wh."+path.Base(name))}, nil)
	m.implied(name)
	m.now.remove(name)
	m.own[name] = 'w'
}

// opaque hides what the layers below have in a directory that this layer has nothing in yet. Now and then there is
// nothing to hide.
func (m *layerMaker) opaque() {
	suits := func(name string, k byte) bool {
		return k == tar.TypeDir && m.free(name) && len(union(m.own).below(name)) == 0
	}
	name, ok := pick(m.rng, m.lower, suits)
	if m.rng.IntN(3) == 0 {
		name = m.path()
		ok = suits(name, tar.TypeDir)
	}
	if !ok {
		return
	}
	m.add(name, tar.TypeDir, "")
	m.write(&tar.Header{Typeflag: tar.TypeReg, Name: name + "/.wh..wh..opq"}, nil)
	m.now.remove(name)
	m.now[name] = tar.TypeDir
	m.own[name] = 'o'
}

func (m *layerMaker) write(hdr *tar.Header, data []byte) {
	m.t.Helper()
	hdr.Size = int64(len(data))
	if err := m.out.WriteHeader(hdr); err != nil {
		m.t.Fatal(err)
	}
	if _, err := m.out.Write(data); err != nil {
		m.t.Fatal(err)
	}
}
