package driver_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	graphdriver "github.com/containers/storage/drivers"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
	fstest "github.com/crio-erofs/crio-erofs/test/tree"
)

// freeBlocks returns how many blocks a file system has free.
func freeBlocks(t *testing.T, root string) uint64 {
	t.Helper()
	unix.Sync()
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		t.Fatal(err)
	}
	return st.Bfree
}

// TestFreeing pulls and removes large layers on a disk that has room for one of them: a pull has the space of what was
// removed before it, and at the end nothing is taken.
func TestFreeing(t *testing.T) {
	needRoot(t)
	fstest.RequireTool(t, "mkfs.ext4")
	root := fstest.FileSystem(t, 64<<20, "mkfs.ext4", "-q")
	d := reopen(t, root)
	content := make([]byte, 35<<20)
	for i := range 4 {
		if _, err := rand.NewChaCha8([32]byte{byte(i)}).Read(content); err != nil {
			t.Fatal(err)
		}
		apply(t, d, "large", "", makeTar(t, file{name: "f", content: string(content)}))
		if i == 0 {
			if err := d.Create("second", "", nil); err != nil {
				t.Fatal(err)
			}
			content[0]++
			layer := makeTar(t, file{name: "f", content: string(content)})
			_, err := d.ApplyDiff("second", "", graphdriver.ApplyDiffOpts{Diff: bytes.NewReader(layer)})
			if err == nil {
				t.Fatal("the disk has room for two")
			}
			if err := d.Remove("second"); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Remove("large"); err != nil {
			t.Fatal(err)
		}
		wantNames(t, root, "volumes", 0)
	}
	if err := d.Cleanup(); err != nil { // waits
		t.Fatal(err)
	}
	free := freeBlocks(t, root)
	if all := uint64(64 << 20 / 4096); free < all*4/5 {
		t.Errorf("%d of %d blocks are free", free, all)
	}
}

// TestFreeingWhileOthersWait has files freed while others wait for theirs, as where images are removed while layers are
// pulled and image volumes made.
func TestFreeingWhileOthersWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var f driver.Freeing
	f.Wait() // for nothing
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for range 2000 {
				file, err := os.Open(path)
				if err != nil {
					t.Error(err)
					return
				}
				f.Close(file)
				f.Wait()
				if err := file.Close(); !errors.Is(err, os.ErrClosed) {
					t.Errorf("a file was not closed when the wait for it was over (%v)", err)
					return
				}
			}
		})
	}
	users.Wait()
}
