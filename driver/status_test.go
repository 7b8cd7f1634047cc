package driver_test

import (
	"archive/tar"
	"strings"
	"testing"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/directory"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	fstest "github.com/crio-erofs/crio-erofs/test/tree"
)

func TestStatus(t *testing.T) {
	needRoot(t)
	d, _ := newDriver(t, "erofs.mount=loop")
	status := map[string]string{}
	for _, pair := range d.Status() {
		status[pair[0]] = pair[1]
	}
	for key, want := range map[string]string{
		"EROFS file-backed mounts": "false", "Layout": "aligned", "Verity": "on", "Store version": "1",
	} {
		if status[key] != want {
			t.Errorf("%s is %q, want %q", key, status[key], want)
		}
	}
	if status["Backing Filesystem"] == "" {
		t.Error("no backing file system")
	}
}

// TestVolumeUsage wants a volume layer to be as large as what is in it, all kinds of files counted as the kernel shows
// them.
func TestVolumeUsage(t *testing.T) {
	needRoot(t)
	layer := makeTar(t, dir("d"), file{name: "d/a", content: strings.Repeat("a", 5000)}, file{name: "empty"},
		file{name: "hard", link: "d/a", kind: tar.TypeLink}, file{name: "soft", link: "d/a", kind: tar.TypeSymlink},
		file{name: "null", kind: tar.TypeChar}, file{name: "fifo", kind: tar.TypeFifo}, file{name: ".wh.gone"},
		file{name: "d/.wh..wh..opq"}, file{name: "implied/too", content: "x"}, file{name: "empty", content: "now not"})
	for _, layout := range volume.Layouts {
		d, _ := newDriver(t, "erofs.layout="+string(layout))
		apply(t, d, "layer", "", layer)
		want, err := directory.Usage(fstest.MountVolume(t, volumeOf(t, d, "layer")))
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.ReadWriteDiskUsage("layer")
		if err != nil || *got != *want {
			t.Errorf("%s: %+v, %v; the kernel shows %+v", layout, got, err, want)
		}
	}
}

// TestUsage wants all that tells a layer's size to tell the same.
func TestUsage(t *testing.T) {
	needRoot(t)
	d, _ := newDriver(t)
	layer := makeTar(t, file{name: "a", content: strings.Repeat("a", 5000)}, file{name: "b", content: "b"})
	if err := d.Create("volume", "", nil); err != nil {
		t.Fatal(err)
	}
	applied, err := d.ApplyDiff("volume", "", graphdriver.ApplyDiffOpts{Diff: strings.NewReader(string(layer))})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.CreateReadWrite("directory", "", nil); err != nil {
		t.Fatal(err)
	}
	again := graphdriver.ApplyDiffOpts{Diff: strings.NewReader(string(layer))}
	if _, err := d.ApplyDiff("directory", "", again); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"volume", "directory"} {
		size, err := d.DiffSize(id, nil, "", nil, "")
		if err != nil {
			t.Fatal(err)
		}
		usage, err := d.ReadWriteDiskUsage(id)
		if err != nil {
			t.Fatal(err)
		}
		if size != 5001 || applied != 5001 || usage.Size != 5001 || usage.InodeCount != 3 {
			t.Errorf("%s: ApplyDiff %d, DiffSize %d, usage %+v; want 5001 bytes, 3 inodes", id, applied, size, usage)
		}
	}
}

// TestListLayers wants children before parents: in this order they can be removed.
func TestListLayers(t *testing.T) {
	needRoot(t)
	d, _ := newDriver(t)
	for id, parent := range map[string]string{"b": "", "a": ""} {
		if err := d.Create(id, parent, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, chain := range [][2]string{{"c", "b"}, {"0", "c"}} {
		if err := d.Create(chain[0], chain[1], nil); err != nil {
			t.Fatal(err)
		}
	}
	ids, err := d.ListLayers()
	if err != nil || strings.Join(ids, " ") != "0 c a b" {
		t.Errorf("got %v, %v", ids, err)
	}
}
