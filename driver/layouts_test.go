package driver_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// TestLayouts has the same image with every kind of volume, and then as an image whose layers are of different kinds,
// because the options were changed in between.
func TestLayouts(t *testing.T) {
	needRoot(t)
	root := ext4(t)
	layers := imageLayers(t)
	var kinds [][]string
	for _, layout := range volume.Layouts {
		for _, verity := range []string{"on", "off"} {
			kinds = append(kinds, []string{"erofs.image_volume=copy", "erofs.layout=" + string(layout),
				"erofs.verity=" + verity})
		}
	}
	for i, options := range kinds {
		t.Run(fmt.Sprint(options), func(t *testing.T) {
			d := reopen(t, root, options...)
			m := start(t, d, fmt.Sprintf("c%d", i), pull(t, d, fmt.Sprintf("image%d", i), layers...))
			checkImageTree(t, m)
			if m.Refusal != "" || len(m.Volumes) != 3 || (m.Image == nil) == (i == 0) || (m.NoImage == "") != (i == 0) {
				t.Errorf("manifest %+v", m)
			}
			for n, v := range m.Volumes {
				distinct := []int{0, 2, 3}
				if (v.Verity == nil) != (i%2 == 1) || "erofs.layout="+string(v.Layout) != options[1] ||
					v.DiffID != digest.FromBytes(layers[distinct[n]]).String() {
					t.Errorf("volume %+v", v)
				}
			}
			put(t, d, m.ID)
		})
	}
	wantNames(t, root, "volumes", 4*3+1)
	top, id := "", ""
	for i, layer := range layers {
		d := reopen(t, root, kinds[i]...)
		id = fmt.Sprintf("mixed-%d", i)
		apply(t, d, id, top, layer)
		top = id
	}
	d := reopen(t, root)
	m := start(t, d, "mixed", top)
	checkImageTree(t, m)
	if len(m.Volumes) != 4 { // the two equal layers are different volumes
		t.Errorf("manifest %+v", m)
	}
	wantNames(t, root, "volumes", 4*3+1)
	put(t, d, "mixed")
	remove(t, d, "mixed", "mixed-3", "mixed-2", "mixed-1", "mixed-0")
	for i := range kinds {
		remove(t, d, fmt.Sprintf("c%d", i))
		for n := range layers {
			remove(t, d, fmt.Sprintf("image%d-%d", i, len(layers)-1-n))
		}
	}
	wantNames(t, root, "volumes", 0)
}

// TestTarfsKernel wants tarfs refused at start, with the way out, where the kernel is too old for it. Linux 6.4 is not,
// nor are older ones of distributions that have taken over what it takes: Debian's 6.1 has.
func TestTarfsKernel(t *testing.T) {
	needRoot(t)
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(uts.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	d := reopen(t, root) // with a volume of another layout, which can be mounted
	apply(t, d, "aligned", "", makeTar(t, file{name: "f", content: "1"}))
	_, err := openDriver(root, "erofs.layout=tarfs")
	if err == nil {
		return // TestLayouts and others read what is mounted then
	}
	old := major < 6 || major == 6 && minor < 4
	if !old || !strings.Contains(err.Error(), "needs Linux 6.4") || !strings.Contains(err.Error(), "layout=aligned") {
		t.Errorf("Linux %d.%d: %v", major, minor, err)
	}
}

// TestTreelessName has the name of a volume without tree say what is in it.
func TestTreelessName(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t, "erofs.verity=off")
	a, b := makeTar(t, file{name: "a", content: "1"}), makeTar(t, file{name: "a", content: "2"})
	apply(t, d, "a1", "", a)
	apply(t, d, "a2", "", a)
	apply(t, d, "b", "", b)
	wantNames(t, root, "volumes", 2)
	d = reopen(t, root, "erofs.verity=off", "erofs.layout=tarfs")
	apply(t, d, "a3", "", a)
	wantNames(t, root, "volumes", 3)
}
