package driver_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/containers/storage"
	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/reexec"
)

// TestStress has goroutines and processes pull, start, stop and remove in one store at the same time: layers of equal
// content under different ids, containers of images that they share, and images whose volumes others are about to use.
// "make race" runs it under the race detector.
func TestStress(t *testing.T) {
	needRoot(t)
	for _, mode := range []struct {
		name    string
		disk    func(testing.TB) string
		options []string
	}{
		{"file", ext4, nil},
		{"loop", ext4, []string{"erofs.mount=loop"}},
		{"image", xfs, nil},
	} {
		t.Run(mode.name, func(t *testing.T) {
			root := mode.disk(t)
			d := reopen(t, root, mode.options...)
			for _, s := range []step{{"pull", "base", "", 0}, {"pull", "top", "base", 1}} {
				if err := s.take(d); err != nil {
					t.Fatal(err)
				}
			}
			var wg sync.WaitGroup
			for i := range 6 {
				wg.Go(func() {
					if err := crowd(i, d); err != nil {
						t.Error(err)
					}
				})
			}
			for i := range 2 {
				wg.Go(func() {
					if err := crowdProcess(root, mode.options, fmt.Sprint("p", i)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			checkSound(t, root)
			wantNames(t, root, "layers", 2)
			for i, id := range []string{"base", "top"} {
				checkContent(t, d, id, i)
			}
			for _, id := range []string{"top", "base"} {
				if err := d.Remove(id); err != nil {
					t.Error(err)
				}
			}
			wantNames(t, root, "volumes", 0)
		})
	}
}

// crowdSteps are what one of many does: an image of its own, of content that others have, too, and containers of that
// and of the image that all share.
func crowdSteps(name string, seed uint64) []step {
	rng := rand.New(rand.NewPCG(2, seed))
	var steps []step
	for range 4 {
		image, n := name+"-image", rng.IntN(contents)
		steps = append(steps,
			step{"pull", image, "base", n}, step{"start", name + "-own", image, 0}, step{"start", name + "-shared", "top", 0},
			step{"stop", name + "-own", "", 0}, step{"remove", name + "-own", "", 0}, step{"remove", image, "", 0},
			step{"stop", name + "-shared", "", 0}, step{"remove", name + "-shared", "", 0})
	}
	return steps
}

// crowd takes the steps and looks, between them, whether what it has started is there.
func crowd(i int, d graphdriver.Driver) error {
	for _, s := range crowdSteps(fmt.Sprint("g", i), uint64(i)) {
		if err := s.take(d); err != nil {
			return fmt.Errorf("%s %s: %w", s.Op, s.ID, err)
		}
		if s.Op != "start" {
			continue
		}
		root, err := d.Get(s.ID, graphdriver.MountOpts{})
		if err != nil {
			return err
		}
		// A link of the topmost layer leads to a file of all.
		if _, err := os.ReadDir(filepath.Join(root, "shared")); err != nil {
			return err
		}
		if err := d.Put(s.ID); err != nil {
			return err
		}
	}
	return nil
}

// crowdProcess takes the steps in a process of its own.
func crowdProcess(root string, options []string, name string) error {
	input, err := json.Marshal(life{Root: root, Options: options, Steps: crowdSteps(name, 9), Free: true})
	if err != nil {
		return err
	}
	cmd := reexec.Command(lifeName)
	cmd.SysProcAttr = nil // see reexec: the thread that starts it may end before it
	cmd.Stdin = bytes.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// TestStressStorage has containers of one image come and go in parallel, through containers/storage, while another image
// that shares layers with it is pulled and removed. The race detector would find containers/storage's own
// LockFile.AssertLocked.
func TestStressStorage(t *testing.T) {
	needRoot(t)
	root := xfs(t)
	s := openStorage(t, root)
	top := putLayers(t, s, [][]byte{content(0), content(1)})
	image, err := s.CreateImage("", nil, top, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if err := tryCycle(s, image.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 2 {
		wg.Go(func() {
			for range 3 {
				if err := tryPull(s, content(2+i), content(0)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	deleteAll(t, s, nil, []string{image.ID})
	if _, err := s.Shutdown(true); err != nil {
		t.Error(err)
	}
	checkSound(t, filepath.Join(root, "graph"))
	wantNames(t, filepath.Join(root, "graph"), "volumes", 0)
}

func tryCycle(s storage.Store, image string) error {
	c, err := s.CreateContainer("", nil, image, "", "", nil)
	if err != nil {
		return err
	}
	root, err := s.Mount(c.ID, "")
	if err == nil {
		_, err = os.ReadFile(filepath.Join(root, "shared/1"))
	}
	_, unmountErr := s.Unmount(c.ID, true)
	return errors.Join(err, unmountErr, s.DeleteContainer(c.ID))
}

// tryPull pulls an image of these layers and removes it.
func tryPull(s storage.Store, layers ...[]byte) error {
	top := ""
	for _, b := range layers {
		l, _, err := s.PutLayer("", top, nil, "", false, nil, bytes.NewReader(b))
		if err != nil {
			return err
		}
		top = l.ID
	}
	i, err := s.CreateImage("", nil, top, "", nil)
	if err != nil {
		return err
	}
	_, err = s.DeleteImage(i.ID, true)
	return err
}
