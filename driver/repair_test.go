package driver_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/storage"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// TestRepair damages a layer's volume and has containers/storage find it and remove what needs it, as CRI-O does after
// an unclean stop (internal_repair). Nothing else goes, and the image can be pulled again.
func TestRepair(t *testing.T) {
	needRoot(t)
	content := []byte(strings.Repeat("content", 1000))
	flipped := func(t *testing.T, path string) { damage(t, path, content) }
	for name, c := range map[string]struct {
		options []string
		damage  func(t *testing.T, path string)
	}{
		"aligned": {nil, flipped}, "tarfs": {[]string{"erofs.layout=tarfs"}, flipped},
		"no trees": {[]string{"erofs.verity=off"}, flipped},
		"no superblock": {nil, func(t *testing.T, path string) {
			flip(t, path, 1024)
		}},
		"truncated": {nil, func(t *testing.T, path string) {
			if err := os.Truncate(path, 9000); err != nil {
				t.Fatal(err)
			}
		}},
		"lost": {nil, func(t *testing.T, path string) {
			if err := os.RemoveAll(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			root, options := xfs(t), c.options
			s := openStorage(t, root, options...)
			t.Cleanup(func() {
				if _, err := s.Shutdown(true); err != nil {
					t.Error(err)
				}
			})
			tars := [][]byte{
				makeTar(t, file{name: "base", content: "b"}),
				makeTar(t, file{name: "f", content: string(content)}),
				makeTar(t, file{name: "top", content: "t"}),
			}
			other := createImage(t, s, putLayers(t, s, tars[:1]))
			image := createImage(t, s, putLayers(t, s, tars))
			container, err := s.CreateContainer("", nil, image, "", "", nil)
			if err != nil {
				t.Fatal(err)
			}
			m, err := volume.ReadManifest(mountContainer(t, s, container.ID))
			if err != nil {
				t.Fatal(err)
			}
			if (options == nil) != (m.Image != nil) {
				t.Errorf("image volume %+v, %q", m.Image, m.NoImage)
			}
			wantDamage(t, s, 0, 0, 0)
			if _, err := s.Unmount(container.ID, false); err != nil {
				t.Fatal(err)
			}
			c.damage(t, m.Volumes[1].Path)
			// The layer, the one above it and the container's; all that stands on them.
			report := wantDamage(t, s, 1, 1, 1)
			if errs := s.Repair(report, storage.RepairEverything()); len(errs) != 0 {
				t.Error(errs)
			}
			wantDamage(t, s, 0, 0, 0)
			if s.Exists(image) || s.Exists(container.ID) || !s.Exists(other) {
				t.Error("not just the damaged image and its container are gone")
			}
			wantNames(t, filepath.Join(root, "graph"), "volumes", 1)
			wantNames(t, filepath.Join(root, "graph"), "layers", 1)
			again := createImage(t, s, putLayers(t, s, tars))
			wantDamage(t, s, 0, 0, 0)
			deleteAll(t, s, nil, []string{again, other})
			wantNames(t, filepath.Join(root, "graph"), "volumes", 0)
		})
	}
}

func createImage(t *testing.T, s storage.Store, top string) (id string) {
	t.Helper()
	image, err := s.CreateImage("", nil, top, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return image.ID
}

// wantDamage has containers/storage check all there is, and wants at least so many things damaged, or none.
func wantDamage(t *testing.T, s storage.Store, layers, images, containers int) storage.CheckReport {
	t.Helper()
	if err := settle(s); err != nil { // or what is read is what the kernel remembers of a damaged file
		t.Fatal(err)
	}
	report, err := s.Check(storage.CheckEverything())
	if err := errors.Join(err, settle(s)); err != nil {
		t.Fatal(err)
	}
	for what, n := range map[string][2]int{
		"layers": {len(report.Layers), layers}, "images": {len(report.Images), images},
		"containers": {len(report.Containers), containers},
	} {
		if (n[1] == 0) != (n[0] == 0) || n[0] < n[1] {
			t.Errorf("%d damaged %s, want %d: %+v", n[0], what, n[1], report)
		}
	}
	return report
}

// damage changes a byte in the middle of content, wherever a file has it.
func damage(t *testing.T, path string, content []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, content)
	if at < 0 {
		t.Fatalf("%s does not have the content", path)
	}
	flip(t, path, int64(at+len(content)/2))
}
