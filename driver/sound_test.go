package driver_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/opencontainers/go-digest"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// checkSound fails if something in a store that was just opened is damaged or half-made: every volume is verified
// against its root hash, as many layers use it as it has links, and nothing is there that nobody uses.
func checkSound(t testing.TB, root string) {
	t.Helper()
	checkSoundStores(t, roots(root))
}

// checkSoundStores does so for stores that have volumes for each other.
func checkSoundStores(t testing.TB, all []string) {
	t.Helper()
	for _, root := range all {
		checkSoundStore(t, root, all)
	}
}

// checkSoundStore does so for one of them.
func checkSoundStore(t testing.TB, root string, all []string) {
	t.Helper()
	home := filepath.Join(root, driver.Name)
	if left := names(t, root, "tmp"); len(left) > 0 {
		t.Errorf("tmp/ holds %v", left)
	}
	links := linksOf(t, home)
	for _, name := range names(t, root, "volumes") {
		if err := checkVolume(filepath.Join(home, "volumes", name), name, links); err != nil {
			t.Errorf("volume %s: %v", name, err)
		}
	}
	for _, name := range names(t, root, "mounts") {
		if !slices.ContainsFunc(all, func(r string) bool { return exists(filepath.Join(r, driver.Name, "volumes", name)) }) {
			t.Errorf("mount point of a volume that is gone: %s", name)
		}
	}
	for _, id := range names(t, root, "layers") {
		if _, err := os.Stat(filepath.Join(home, "layers", id, "layer.json")); err != nil {
			t.Errorf("half a layer: %v", err)
		}
	}
	if len(mountsIn(t, root, "layers")) == 0 {
		for _, m := range mountsIn(t, root, "mounts") {
			t.Errorf("mounted, and no container is: %s", m.Mountpoint)
		}
	}
}

// linksOf counts the files of layers by inode.
func linksOf(t testing.TB, home string) map[uint64]uint64 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(home, "layers/*/*.erofs"))
	if err != nil {
		t.Fatal(err)
	}
	links := map[uint64]uint64{}
	for _, file := range files {
		var st syscall.Stat_t
		if err := syscall.Lstat(file, &st); err != nil {
			t.Error(err)
		}
		links[st.Ino]++
	}
	return links
}

func checkVolume(dir, name string, links map[uint64]uint64) error {
	var st syscall.Stat_t
	path := filepath.Join(dir, volume.FileName)
	if err := syscall.Lstat(path, &st); err != nil {
		return err
	}
	if st.Nlink < 2 || uint64(st.Nlink) != links[st.Ino]+1 {
		return fmt.Errorf("%d links, and %d in layers", st.Nlink, links[st.Ino])
	}
	var desc volume.Description
	b, err := os.ReadFile(filepath.Join(dir, "volume.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &desc); err != nil {
		return err
	}
	if desc.Size != st.Size {
		return fmt.Errorf("%d bytes, and described with %d", st.Size, desc.Size)
	}
	if desc.Verity == nil {
		return nil
	}
	if !strings.HasPrefix(desc.Verity.RootHash, name) {
		return fmt.Errorf("has root hash %s", desc.Verity.RootHash)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := volume.Verify(context.Background(), f, st.Size, desc.Verity.RootHash, nil); err != nil {
		return err
	}
	verityFile, err := os.Open(filepath.Join(dir, volume.VerityFileName))
	if err != nil {
		return err
	}
	defer verityFile.Close()
	return volume.CheckVerityFile(verityFile, desc.Verity)
}

// checkContent compares what a layer shows by itself, its diff, with the tar that it was made of.
func checkContent(t testing.TB, d graphdriver.Driver, id string, n int) {
	t.Helper()
	m, err := d.Metadata(id)
	if err != nil {
		t.Errorf("layer %s: %v", id, err)
		return
	}
	if want := digest.FromBytes(content(n)).String(); m["DiffID"] != want {
		t.Errorf("layer %s has diffID %s, want %s", id, m["DiffID"], want)
	}
	getter, err := d.(graphdriver.DiffGetterDriver).DiffGetter(id)
	if err != nil {
		t.Errorf("layer %s: %v", id, err)
		return
	}
	defer getter.Close()
	if err := sameFiles(getter, content(n)); err != nil {
		t.Errorf("layer %s: %v", id, err)
	}
}

// sameFiles compares the content of the files that a layer has with those of a tar.
func sameFiles(getter graphdriver.FileGetCloser, layer []byte) error {
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || strings.HasPrefix(filepath.Base(h.Name), ".wh.") {
			continue
		}
		want, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		f, err := getter.Get(h.Name)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s has %d bytes that are not the tar's %d", h.Name, len(got), len(want))
		}
	}
}
