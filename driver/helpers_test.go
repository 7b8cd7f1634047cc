package driver_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containers/storage"
	graphdriver "github.com/containers/storage/drivers"
	"github.com/moby/sys/mountinfo"

	"github.com/crio-erofs/crio-erofs/driver"
)

// file is an entry of a layer's tar.
type file struct {
	name, content, link string
	kind                byte // default: a regular file
	mode                int64
	xattrs              map[string]string
}

func dir(name string) file { return file{name: name + "/", kind: tar.TypeDir, mode: 0o755} }

// makeTar makes a layer's tar with fixed times and owners.
func makeTar(t testing.TB, files ...file) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		if f.kind == 0 {
			f.kind = tar.TypeReg
		}
		if f.mode == 0 {
			f.mode = 0o644
		}
		h := &tar.Header{
			Name: f.name, Typeflag: f.kind, Linkname: f.link, Mode: f.mode, Size: int64(len(f.content)),
			ModTime: time.Unix(1700000000, 0), Format: tar.FormatPAX, PAXRecords: map[string]string{},
		}
		for name, value := range f.xattrs {
			h.PAXRecords["SCHILY.xattr."+name] = value
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// newDriver opens a store in a new directory and, at the end of the test, unmounts all that is left.
func newDriver(t testing.TB, options ...string) (graphdriver.Driver, string) {
	t.Helper()
	root := t.TempDir()
	return reopen(t, root, options...), root
}

// reopen opens a store as another process would.
func reopen(t testing.TB, root string, options ...string) graphdriver.Driver {
	t.Helper()
	d, err := openDriver(root, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// cleanUp unmounts, at the end of the test, what a store still has mounted because the test has failed.
func cleanUp(t testing.TB, root string) {
	t.Cleanup(func() {
		if d, err := openDriver(root); err != nil {
			t.Error(err)
		} else if err := errors.Join(d.Cleanup(), letGo()); err != nil {
			t.Error(err)
		}
	})
}

// imagesDir is where a root has a store for images alone, if it has one.
const imagesDir = "images"

// roots returns the roots of which one consists: itself, and that for images if it has one.
func roots(root string) []string {
	if images := filepath.Join(root, imagesDir); exists(images) {
		return []string{root, images}
	}
	return []string{root}
}

func openDriver(root string, options ...string) (graphdriver.Driver, error) {
	o := graphdriver.Options{Root: root, DriverOptions: options}
	if images := filepath.Join(root, imagesDir); exists(images) {
		o.ImageStore = images
	}
	d, err := graphdriver.GetDriver(driver.Name, o)
	if err == nil {
		opened.Lock()
		defer opened.Unlock()
		opened.drivers = append(opened.drivers, d)
	}
	return d, err
}

// opened has all drivers of this process.
var opened struct {
	sync.Mutex
	drivers []graphdriver.Driver
}

// letGo has all drivers give up the mounts that they keep for containers to come.
func letGo() error {
	opened.Lock()
	defer opened.Unlock()
	var errs []error
	for _, d := range opened.drivers {
		errs = append(errs, driver.DropKept(d))
	}
	return errors.Join(errs...)
}

// apply makes a layer of a tar.
func apply(t testing.TB, d graphdriver.Driver, id, parent string, layer []byte) {
	t.Helper()
	if err := d.Create(id, parent, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ApplyDiff(id, parent, graphdriver.ApplyDiffOpts{Diff: bytes.NewReader(layer)}); err != nil {
		t.Fatal(err)
	}
}

// get mounts a layer until the end of the test, or until it is put before.
func get(t testing.TB, d graphdriver.Driver, id string, options ...string) string {
	t.Helper()
	root, err := d.Get(id, graphdriver.MountOpts{Options: options})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func put(t testing.TB, d graphdriver.Driver, id string) {
	t.Helper()
	if err := stop(d, id); err != nil {
		t.Fatal(err)
	}
}

// settle does not wait for the host mounts that linger in a store.
func settle(s storage.Store) error {
	d, err := s.GraphDriver()
	if err != nil {
		return err
	}
	return driver.Settle(d)
}

// stop unmounts a layer, and does not wait for the host mounts that linger.
func stop(d graphdriver.Driver, id string) error { return errors.Join(d.Put(id), driver.Settle(d)) }

// tree lists what is below a directory, a line for each file.
func tree(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	err := filepath.Walk(root, func(path string, fi os.FileInfo, err error) error {
		if err != nil || path == root {
			return err
		}
		line := fmt.Sprintf("%s %s", path[len(root):], fi.Mode().Type())
		if fi.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + string(b)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// mountsIn lists the mounts below a directory of the store.
func mountsIn(t testing.TB, root, sub string) []*mountinfo.Info {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(filepath.Join(root, driver.Name, sub)))
	if err != nil {
		t.Fatal(err)
	}
	return mounts
}

// names lists a directory of the store.
func names(t testing.TB, root, sub string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, driver.Name, sub))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// wantNames fails if a directory of the store does not hold just so many entries.
func wantNames(t testing.TB, root, sub string, n int) {
	t.Helper()
	if list := names(t, root, sub); len(list) != n {
		t.Errorf("%s holds %v, want %d entries", sub, list, n)
	}
}
