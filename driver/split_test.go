package driver_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/storage"
	graphdriver "github.com/containers/storage/drivers"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// TestSplitStore has images in a store of their own, beside the containers and on another file system.
func TestSplitStore(t *testing.T) {
	needRoot(t)
	for name, c := range map[string]struct {
		containers, images func(testing.TB) string
		image              bool // there are image volumes
	}{
		"one file system":       {xfs, nil, true},
		"shared blocks":         {ext4, xfs, true},
		"no shared blocks":      {xfs, ext4, false},
		"btrfs":                 {ext4, btrfs, true},
		"no file-backed mounts": {ext4, tmpfs, false},
		"containers in memory":  {tmpfs, xfs, true},
	} {
		t.Run(name, func(t *testing.T) {
			root := c.containers(t)
			images := filepath.Join(root, "images")
			var err error
			if c.images == nil {
				err = os.Mkdir(images, 0o700)
			} else {
				err = os.Symlink(c.images(t), images)
			}
			if err != nil {
				t.Fatal(err)
			}
			testSplitStore(t, root, images, c.image)
			testStorage(t, root) // cleans up, too
			for _, sub := range []string{"layers", "volumes", "mounts", "tmp"} {
				wantNames(t, images, sub, 0)
			}
		})
	}
}

// TestSplitStoreLimit has a limit for what containers write, which is no matter of the images' file system.
func TestSplitStoreLimit(t *testing.T) {
	needRoot(t)
	_, err := graphdriver.GetDriver(driver.Name, graphdriver.Options{
		Root: tmpfs(t), ImageStore: tmpfs(t), DriverOptions: []string{"erofs.size=8M"},
	})
	if err == nil || !strings.Contains(err.Error(), "prjquota") || strings.Contains(err.Error(), "image store") {
		t.Errorf("error %v; want one of the graph root's file system", err)
	}
}

// testSplitStore runs containers of an image from before the store was split, and of one that was pulled since then and
// has the old one's layer below its own.
func testSplitStore(t *testing.T, root, images string, wantImage bool) {
	tars := [][]byte{
		makeTar(t, file{name: "base", content: "b"}), makeTar(t, file{name: "middle", content: "m"}),
		makeTar(t, file{name: "top", content: "t"}),
	}
	hidden := images + ".hidden"
	rename(t, images, hidden)
	s := openStorage(t, root)
	base := putLayers(t, s, tars[:1])
	old := createImage(t, s, base)
	closeStorage(t, s)
	rename(t, hidden, images)

	s = openStorage(t, root)
	fresh := createImage(t, s, putLayers(t, s, tars[1:]))
	mixed := createImage(t, s, putLayersOn(t, s, base, tars[1:]))
	graph := filepath.Join(root, "graph")
	var containers []string
	for _, c := range []struct {
		image, files string
		volumes      int
		wantImage    bool
	}{
		{old, "/base ---------- b", 1, true},
		{fresh, "/middle ---------- m\n/top ---------- t", 2, wantImage},
		{mixed, "/base ---------- b\n/middle ---------- m\n/top ---------- t", 3, wantImage && sameDevice(t, graph, images)},
	} {
		container, err := s.CreateContainer("", nil, c.image, "", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		mounted := mountContainer(t, s, container.ID)
		containers = append(containers, container.ID)
		if got := tree(t, mounted); got != c.files || !strings.HasPrefix(mounted, graph) {
			t.Errorf("a container has %q at %s, want %q", got, mounted, c.files)
		}
		checkManifest(t, mounted, c.volumes)
		m, err := volume.ReadManifest(mounted)
		if err != nil {
			t.Fatal(err)
		}
		if (m.Image != nil) != c.wantImage {
			t.Errorf("image volume %+v, %q", m.Image, m.NoImage)
		}
		if m.Image != nil && c.volumes > 1 && !within(t, m.Image.Path, images) {
			t.Errorf("the image volume is %s", m.Image.Path)
		}
	}
	wantDamage(t, s, 0, 0, 0)
	wantNames(t, graph, "volumes", 1)
	wantNames(t, graph, "layers", 4)
	mounts := len(mountsIn(t, graph, "mounts"))
	d, err := s.GraphDriver()
	if err != nil {
		t.Fatal(err)
	}
	if err := driver.DropKept(d); err != nil {
		t.Fatal(err)
	}
	s.Free()
	s = openStorage(t, root) // as when CRI-O restarts
	if n := len(mountsIn(t, graph, "mounts")); n != mounts || n == 0 {
		t.Errorf("%d host mounts after a restart, %d before", n, mounts)
	}
	// In this order: of two images in different halves containers/storage does not see that they have a layer in common,
	// and takes it away with the first that is on top of all the other's.
	deleteAll(t, s, containers, []string{old, mixed, fresh})
	wantDamage(t, s, 0, 0, 0)
	for _, home := range []string{graph, images} {
		for _, sub := range []string{"layers", "volumes", "mounts", "tmp"} {
			wantNames(t, home, sub, 0)
		}
	}
	closeStorage(t, s)
}

// closeStorage has the next one who opens the store get a new driver.
func closeStorage(t *testing.T, s storage.Store) {
	t.Helper()
	if _, err := s.Shutdown(true); err != nil {
		t.Error(err)
	}
	s.Free()
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func sameDevice(t *testing.T, a, b string) bool {
	t.Helper()
	return deviceOf(t, a) == deviceOf(t, b)
}

func deviceOf(t *testing.T, path string) uint64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	id, err := volume.FileIDOf(fi)
	if err != nil {
		t.Fatal(err)
	}
	return id.Device
}

// within says whether a path is below a directory, by their real names.
func within(t *testing.T, path, dir string) bool {
	t.Helper()
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	return strings.HasPrefix(path, real+"/")
}

// TestSplitStoreHalf opens the containers' half alone, as CRI-O's child for pulls does (separate_pull_cgroup): what its
// containers need of the images' stays mounted, and it works itself.
func TestSplitStoreHalf(t *testing.T) {
	needRoot(t)
	root := twoDisks(t)
	d := reopen(t, root)
	top := pull(t, d, "image", imageLayers(t)...)
	m := start(t, d, "c", top)
	before := len(mountsIn(t, root, "mounts"))
	half, err := graphdriver.GetDriver(driver.Name, graphdriver.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(mountsIn(t, root, "mounts")); n != before || n == 0 {
		t.Errorf("%d host mounts, and %d before the half was opened", n, before)
	}
	if err := half.CreateReadWrite("c2", top, nil); err != nil {
		t.Fatal(err)
	}
	get(t, half, "c2")
	checkImageTree(t, m)
	for _, id := range []string{"c2", "c"} {
		put(t, half, id)
	}
	if err := half.Remove("c2"); err != nil {
		t.Error(err)
	}
	if err := half.Cleanup(); err != nil {
		t.Error(err)
	}
	checkSound(t, root)
	get(t, d, "c")
	checkImageTree(t, m)
	put(t, d, "c")
}

// TestSplitStoreDamage finds an image volume damaged that a running container uses: the next one gets the new volume.
func TestSplitStoreDamage(t *testing.T) {
	needRoot(t)
	content := strings.Repeat("content", 10000)
	for name, spoil := range map[string]func(path string){
		"flipped": func(path string) { damage(t, path, []byte(content)) },
		"truncated": func(path string) {
			if err := os.Truncate(path, 9000); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) { testSplitStoreDamage(t, content, spoil) })
	}
}

func testSplitStoreDamage(t *testing.T, content string, spoil func(path string)) {
	root, images := ext4(t), ext4(t)
	open := func(options ...string) graphdriver.Driver {
		d, err := graphdriver.GetDriver(driver.Name, graphdriver.Options{
			Root: root, ImageStore: images, DriverOptions: append([]string{"erofs.image_volume=copy"}, options...),
		})
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
	d := open()
	top := pull(t, d, "image", makeTar(t, file{name: "f", content: content}), makeTar(t, file{name: "top", content: "t"}))
	m := start(t, d, "c", top)
	spoil(m.Image.Path)
	d = open("erofs.verify=on-mount", "erofs.image_volume=background") // CRI-O was restarted, and the container runs
	if fi, err := os.Stat(m.Image.Path); err == nil && fi.Size() == m.Image.Size {
		// The new volume takes a while, and CRI-O may be killed when it is there: nothing of the old one must be left by then.
		holder := flocked(t, filepath.Join(images, "erofs/layers", top))
		start(t, d, "c1", top)
		mount := filepath.Join(root, "erofs/mounts", filepath.Base(filepath.Dir(m.Image.Path)))
		if _, err := os.Lstat(mount); err == nil {
			t.Error("the damaged volume is still mounted")
		}
		put(t, d, "c1")
		holder.Close()
		driver.FinishAside(d)
	}
	d = open("erofs.verify=on-mount")
	start(t, d, "c2", top)
	got, err := os.ReadFile(filepath.Join(root, "erofs/layers/c2/merged/f"))
	if err != nil || string(got) != content {
		t.Errorf("the container has %d bytes, %v, and not what its image has", len(got), err)
	}
	put(t, d, "c")
	put(t, d, "c2")
}
