package driver_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containers/storage"
	graphdriver "github.com/containers/storage/drivers"

	"github.com/crio-erofs/crio-erofs/driver"
)

// cycles is how many containers live and die in TestLeaks, over all of its modes.
const cycles = 1000

// TestLeaks has containers come and go through containers/storage, as CRI-O has them, and wants nothing to be left.
func TestLeaks(t *testing.T) {
	needRoot(t)
	modes := []struct {
		name    string
		disk    func(testing.TB) string
		options []string
	}{
		{"file", ext4, nil},
		{"loop", ext4, []string{"erofs.mount=loop"}},
		{"image", xfs, nil},
		{"ext4", xfs, []string{"erofs.rw_layer=ext4"}},
	}
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			root := mode.disk(t)
			s := openStorage(t, root, mode.options...)
			top := putLayers(t, s, [][]byte{content(0), content(1), content(2)})
			image, err := s.CreateImage("", nil, top, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			cycle(t, s, image.ID) // what is made for the first container stays
			graph := filepath.Join(root, "graph", driver.Name)
			before, err := belongings(graph)
			if err != nil {
				t.Fatal(err)
			}
			for range cycles / len(modes) {
				cycle(t, s, image.ID)
			}
			if err := sameBelongings(before, func() (map[string]int, error) { return belongings(graph) }); err != nil {
				t.Error(err)
			}
			deleteAll(t, s, nil, []string{image.ID})
			if _, err := s.Shutdown(true); err != nil {
				t.Error(err)
			}
		})
	}
}

// cycle lets a container live and die.
func cycle(t *testing.T, s storage.Store, image string) {
	t.Helper()
	c, err := s.CreateContainer("", nil, image, "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	root := mountContainer(t, s, c.ID)
	if err := os.WriteFile(filepath.Join(root, "new"), nil, 0o600); err != nil {
		t.Error(err)
	}
	deleteAll(t, s, []string{c.ID}, nil)
}

// TestLeaksOfPulls has images come and go, every third of them broken off.
func TestLeaksOfPulls(t *testing.T) {
	needRoot(t)
	root := ext4(t)
	d := reopen(t, root)
	pull := func(n int) {
		id := fmt.Sprint("layer", n)
		s := step{Op: "pull", ID: id, Content: n % contents}
		if n%3 == 2 {
			if err := d.Create(id, "", nil); err != nil {
				t.Fatal(err)
			}
			if _, err := d.ApplyDiff(id, "", graphdriver.ApplyDiffOpts{Diff: broken(content(1))}); err == nil {
				t.Fatal("half a layer became a whole one")
			}
		} else if err := s.take(d); err != nil {
			t.Fatal(err)
		}
		if err := d.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 3 {
		pull(n)
	}
	before, err := belongings(root)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 300 {
		pull(n)
	}
	if err := sameBelongings(before, func() (map[string]int, error) { return belongings(root) }); err != nil {
		t.Error(err)
	}
}
