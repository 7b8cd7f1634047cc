package standin_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	crioerofs "github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata/expected"
	"github.com/crio-erofs/crio-erofs/test/standin/shim"
)

// measured is the measurement of an image of these volumes, the lowest first.
func measured(volumes ...*volume) *measure.Measurement {
	m := &measure.Measurement{Layout: crioerofs.LayoutAligned, NoImageVolume: "not made"}
	for _, v := range volumes {
		m.Layers = append(m.Layers, measure.Layer{Volume: measure.Volume{Verity: crioerofs.Verity{RootHash: v.rootHash,
			DataBlockSize: 4096, HashOffset: uint64(v.hashOffset)}}})
	}
	return m
}

// TestExpected has a host that gives a guest the volumes of one image for another's, everything on the host in accord.
// The guest knows from its init data which images it is for.
func TestExpected(t *testing.T) {
	needVM(t)
	lower := makeVolume(t, "lower", busybox(t))
	a, b := makeVolume(t, "a", application(t)), makeVolume(t, "b", func(dir string) {
		must(t, os.WriteFile(filepath.Join(dir, "evil"), []byte("evil"), 0o644))
	})
	initData, err := expected.InitData([]*measure.Measurement{measured(lower), measured(lower, a)})
	must(t, err)
	file := filepath.Join(t.TempDir(), "initdata.toml")
	must(t, os.WriteFile(file, initData, 0o644))
	t.Setenv(shim.EnvInitData, file)
	s := newSandbox(t, "expected", rootfsOf(t, lower))

	c := s.container("image-a", shell("cat /etc/layer"), false)
	must(t, c.create(rootfsOf(t, a, lower), false))
	c.start()
	if status := c.wait(""); status != 0 || c.streams.stdout.text(t) != "upper\n" {
		t.Errorf("image a: exit status %d, output %q", status, c.streams.stdout.text(t))
	}
	c.remove()

	inPlace := a.copy(t) // B in A's place: file, root hash and verity file fit each other
	must(t, os.Rename(b.copy(t).path, inPlace.path))
	inPlace.rootHash, inPlace.hashOffset = b.rootHash, b.hashOffset
	inPlace.describe(t)
	for name, volumes := range map[string][]*volume{
		"image b in the place of image a": {inPlace, lower}, "image b": {b, lower}, "a layer more": {b, a, lower},
		"a layer less": {a}, "another order": {lower, a},
	} {
		c := s.container("refused", shell("cat /etc/layer"), false)
		err := c.create(rootfsOf(t, volumes...), false)
		if err == nil || !strings.Contains(err.Error(), "the guest's init data allow no container with volumes of root hashes ["+
			volumes[0].rootHash) {
			t.Errorf("%s: %v", name, err)
		}
	}
	testShutdown(t, s)
}
