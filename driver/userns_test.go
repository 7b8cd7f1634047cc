package driver_test

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/idtools"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// TestUserNamespace makes a container with mapped ids of an image without: its files belong to the mapped root, who can
// also get at them, and a VM does not get it.
func TestUserNamespace(t *testing.T) {
	needRoot(t)
	const hostRoot = 100000
	dirName := t.TempDir()
	s := openStorage(t, dirName, "auto")
	layer, _, err := s.PutLayer("", "", nil, "", false, nil, bytes.NewReader(makeTar(t, file{name: "f", content: "x"})))
	if err != nil {
		t.Fatal(err)
	}
	image, err := s.CreateImage("", nil, layer.ID, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	maps := []idtools.IDMap{{ContainerID: 0, HostID: hostRoot, Size: 65536}}
	c, err := s.CreateContainer("", nil, image.ID, "", "", &storage.ContainerOptions{
		IDMappingOptions: storage.IDMappingOptions{UIDMap: maps, GIDMap: maps},
	})
	if err != nil {
		t.Fatal(err)
	}
	root := mountContainer(t, s, c.ID)
	for _, path := range []string{filepath.Join(root, "f"), filepath.Dir(root)} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if uid := fi.Sys().(*syscall.Stat_t).Uid; uid != hostRoot {
			t.Errorf("%s belongs to uid %d, want %d", path, uid, hostRoot)
		}
	}
	m, err := volume.ReadManifest(root)
	if err != nil {
		t.Fatal(err)
	}
	if m.Refusal == "" {
		t.Error("the manifest offers volumes whose files have other owners than the container's")
	}
	deleteAll(t, s, []string{c.ID}, []string{image.ID})
	if _, err := s.Shutdown(true); err != nil {
		t.Fatal(err)
	}
}
