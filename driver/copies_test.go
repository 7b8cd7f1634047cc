package driver_test

import (
	"archive/tar"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	graphdriver "github.com/containers/storage/drivers"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// TestCopies mounts images that have a layer more than once, and wants to see what the overlay driver shows, whose
// stack has all the copies. The letters name layers, the lowest first.
func TestCopies(t *testing.T) {
	needRoot(t)
	layers := map[rune][]byte{
		'E': makeTar(t),
		'B': makeTar(t, file{name: "z", content: "base"}, dir("d"), file{name: "d/base", content: "base"}),
		'X': makeTar(t, file{name: "a", content: "x"}, file{name: ".wh.z"}, dir("d"), file{name: "d/f", content: "x"},
			dir("d/e"), file{name: "d/e/f", content: "x"}, dir("o"), file{name: "o/.wh..wh..opq"}),
		'D': makeTar(t, file{name: ".wh.a"}, file{name: "z", content: "again"}, dir("d"), file{name: "d/.wh..wh..opq"},
			file{name: "d/new", content: "d"}, dir("o"), file{name: "o/new", content: "d"}),
		'W': makeTar(t, file{name: ".wh.d"}, file{name: ".wh.a"}),
		'F': makeTar(t, file{name: "d", content: "a file"}, dir("a"), file{name: "a/f", content: "f"}),
		'L': makeTar(t, file{name: "d", kind: tar.TypeSymlink, link: "o"}),
	}
	shared := xfs(t)
	for _, image := range []string{"E", "EE", "EEE", "EBE", "XX", "BXX", "XDX", "BXDX", "BXDXD", "BXWX", "BXWXW", "BXFX",
		"XFXF", "BXLX", "BXDXF", "BXDXDXW", "BXEXE"} {
		t.Run(image, func(t *testing.T) {
			ours := reopen(t, filepath.Join(shared, image)) // a container is mounted with its image volume
			if len(image)%2 == 0 {
				driver.UseMountString(ours)
			}
			reference, err := drivers["overlay"](t.TempDir(), graphdriver.Options{RunRoot: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			want := stack(t, reference, image, layers)
			if got := stack(t, ours, image, layers); !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			checkCopies(t, ours, image)
			single, _ := newDriver(t, "erofs.image_volume=off") // and layer by layer
			if got := stack(t, single, image, layers); !slices.Equal(got, want) {
				t.Errorf("without image volumes: got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// stack makes an image of layers and returns what the image and a container of it show.
func stack(t *testing.T, d graphdriver.Driver, image string, layers map[rune][]byte) (shown []string) {
	t.Helper()
	top := ""
	for i, name := range image {
		id := fmt.Sprintf("layer%d", i)
		apply(t, d, id, top, layers[name])
		top = id
	}
	if err := d.CreateReadWrite("c", top, nil); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{top, "c"} {
		shown = append(shown, tree(t, get(t, d, id)))
		put(t, d, id)
	}
	return shown
}

// checkCopies wants each volume once in the manifest, as the topmost of its layers.
func checkCopies(t *testing.T, d graphdriver.Driver, image string) {
	t.Helper()
	m, err := volume.ReadManifest(get(t, d, "c"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, d, "c")
	var got, want []string
	for _, v := range m.Volumes {
		got = append(got, v.LayerID)
	}
	for i, name := range image {
		if !slices.Contains([]rune(image[i+1:]), name) {
			want = append(want, fmt.Sprintf("layer%d", i))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("manifest has the volumes of %v, want those of %v", got, want)
	}
}
