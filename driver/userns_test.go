package driver_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/idtools"
	"github.com/containers/storage/pkg/reexec"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// hostRoot is the host's id of the user namespaces' root.
const hostRoot = 100000

var usernsMaps = []idtools.IDMap{{ContainerID: 0, HostID: hostRoot, Size: 65536}}

// usernsTar has files of several owners, and modes that a change of the owner would lose. In its root there are no
// names of one character: containers/storage overlooks them when it copies a layer (pwalkdir takes them for ".").
func usernsTar(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o1755, Gid: 7},
		{Name: "own", Mode: 0o600},
		{Name: "su", Mode: 0o4711},
		{Name: "user", Mode: 0o600, Uid: 1000, Gid: 1001},
		{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 1000},
		{Name: "dir/x", Mode: 0o600, Uid: 1000},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// usernsImage makes an image of two layers.
func usernsImage(t *testing.T, s storage.Store) string {
	t.Helper()
	top := putLayers(t, s, [][]byte{makeTar(t, file{name: "below", content: "x"}), usernsTar(t)})
	image, err := s.CreateImage("", nil, top, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return image.ID
}

func usernsContainer(t *testing.T, s storage.Store, image string) string {
	t.Helper()
	c, err := s.CreateContainer("", nil, image, "", "", &storage.ContainerOptions{
		IDMappingOptions: storage.IDMappingOptions{UIDMap: usernsMaps, GIDMap: usernsMaps},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c.ID
}

func wantOwner(t *testing.T, path string, uid, gid uint32) {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st := fi.Sys().(*syscall.Stat_t); st.Uid != uid || st.Gid != gid {
		t.Errorf("%s belongs to %d:%d, want %d:%d", path, st.Uid, st.Gid, uid, gid)
	}
}

// TestUserNamespace runs containers of one image with and without a user namespace side by side. Both stand on the same
// volumes, and a process in the user namespace is root of all that is in its container.
func TestUserNamespace(t *testing.T) {
	needRoot(t)
	for _, mode := range []string{"auto", "loop"} {
		t.Run(mode, func(t *testing.T) { testUserNamespace(t, mode) })
	}
}

func testUserNamespace(t *testing.T, mode string) {
	dirName := t.TempDir()
	s := openStorage(t, dirName, "erofs.mount="+mode)
	if d, err := s.GraphDriver(); err != nil || !d.SupportsShifting() {
		t.Skip("this kernel cannot map the ids of EROFS mounts")
	}
	image := usernsImage(t, s)
	plain, err := s.CreateContainer("", nil, image, "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	id := usernsContainer(t, s, image)
	root, plainRoot := mountContainer(t, s, id), mountContainer(t, s, plain.ID)
	for name, owner := range map[string][2]uint32{
		".": {0, 7}, "own": {0, 0}, "user": {1000, 1001}, "dir": {1000, 0}, "dir/x": {1000, 0},
	} {
		wantOwner(t, filepath.Join(root, name), hostRoot+owner[0], hostRoot+owner[1])
		wantOwner(t, filepath.Join(plainRoot, name), owner[0], owner[1])
	}
	for path, mode := range map[string]os.FileMode{
		root: fs.ModeDir | fs.ModeSticky | 0o755, filepath.Join(root, "su"): fs.ModeSetuid | 0o711,
	} {
		if fi, err := os.Stat(path); err != nil || fi.Mode() != mode {
			t.Errorf("%s: mode %v, %v; want %v", path, fi.Mode(), err, mode)
		}
	}
	// Only root and the mapped root get to what is in the layer's directory, and only root can change that.
	if fi, err := os.Stat(filepath.Dir(root)); err != nil || fi.Mode().Perm() != 0o710 {
		t.Errorf("layer's directory: %v, %v", fi.Mode(), err)
	}
	wantOwner(t, filepath.Dir(root), 0, hostRoot)
	checkManifest(t, root, 2)
	asRootOf(t, root)
	graph := filepath.Join(dirName, "graph")
	wantNames(t, graph, "tmp", 0)
	if n := len(mountsIn(t, graph, "tmp")); n != 0 {
		t.Errorf("%d mounts are left in tmp/", n)
	}

	// What was written keeps its owners over the next mount.
	if _, err := s.Unmount(id, false); err != nil {
		t.Fatal(err)
	}
	root = mountContainer(t, s, id)
	wantOwner(t, root, hostRoot, hostRoot+7)
	wantOwner(t, filepath.Join(root, "new"), hostRoot+5, hostRoot+6)
	wantOwner(t, filepath.Join(root, "user"), hostRoot, hostRoot)
	deleteAll(t, s, []string{id, plain.ID}, []string{image})
	for _, sub := range []string{"layers", "volumes", "mounts"} {
		wantNames(t, graph, sub, 0)
	}
	if _, err := s.Shutdown(true); err != nil {
		t.Fatal(err)
	}
}

const usernsName = "driver-test-userns"

func init() {
	reexec.Register(usernsName, func() {
		if err := useAsRoot(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	})
}

// useAsRoot does to a container's files what only their owner can do.
func useAsRoot(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := os.WriteFile("own", []byte("written"), 0o600); err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile("new", nil, 0o600), os.Chown("new", 5, 6), os.Chown("user", 0, 0)); err != nil {
		return err
	}
	if err := errors.Join(os.Rename("dir/x", "dir/y"), os.Remove("below"), os.Mkdir("below", 0o700)); err != nil {
		return err
	}
	return os.RemoveAll("dir")
}

// asRootOf runs useAsRoot in a user namespace.
func asRootOf(t *testing.T, root string) {
	t.Helper()
	// Tests' directories are closed; CRI-O opens the graph root's in the same way.
	for dir := filepath.Dir(filepath.Dir(root)); strings.HasPrefix(dir, os.TempDir()); dir = filepath.Dir(dir) {
		fi, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, fi.Mode().Perm()|0o111); err != nil {
			t.Fatal(err)
		}
	}
	maps := []syscall.SysProcIDMap{{ContainerID: 0, HostID: hostRoot, Size: 65536}}
	cmd := reexec.Command(usernsName, root)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: maps, GidMappings: maps,
		Credential: &syscall.Credential{Uid: 0, Gid: 0}, Pdeathsig: syscall.SIGKILL,
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("in the user namespace: %v: %s", err, out)
	}
	if b, err := os.ReadFile(filepath.Join(root, "own")); err != nil || string(b) != "written" {
		t.Errorf("own: %q, %v", b, err)
	}
	if got, want := tree(t, filepath.Join(root, "below")), ""; got != want {
		t.Errorf("below has %q", got)
	}
}

// TestUserNamespaceCopies makes a container with mapped ids where the kernel cannot map those of mounts:
// containers/storage copies the image's layer, the files of the copy belong to the mapped root, who can also get at
// them, and a VM does not get it. Once the kernel can, the container's files are not mapped a second time.
func TestUserNamespaceCopies(t *testing.T) {
	needRoot(t)
	s := openStorage(t, t.TempDir())
	d, err := s.GraphDriver()
	if err != nil {
		t.Fatal(err)
	}
	able := driver.Shifting(d, "for a test")
	image := usernsImage(t, s)
	id := usernsContainer(t, s, image)
	for _, why := range []string{"for a test", able} {
		driver.Shifting(d, why)
		root := mountContainer(t, s, id)
		wantOwner(t, filepath.Dir(root), hostRoot, hostRoot)
		wantOwner(t, filepath.Join(root, "own"), hostRoot, hostRoot)
		wantOwner(t, filepath.Join(root, "user"), hostRoot+1000, hostRoot+1001)
		m, err := volume.ReadManifest(root)
		if err != nil {
			t.Fatal(err)
		}
		if m.Refusal == "" {
			t.Error("the manifest offers volumes whose files have other owners than the container's")
		}
		if _, err := s.Unmount(id, false); err != nil {
			t.Fatal(err)
		}
	}
	deleteAll(t, s, []string{id}, []string{image})
	if _, err := s.Shutdown(true); err != nil {
		t.Fatal(err)
	}
}

// TestUserNamespaceCrash leaves behind what a crash leaves while an overlay is being mounted: a mount of a layer's
// directory in tmp/. Init takes the mount away, and not what is in the directory.
func TestUserNamespaceCrash(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	if err := d.Create("directory", "", nil); err != nil {
		t.Fatal(err)
	}
	diff := filepath.Join(root, "erofs", "layers", "directory", "diff")
	if err := os.WriteFile(filepath.Join(diff, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(root, "erofs", "tmp", "1", "0")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(diff, left, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	reopen(t, root)
	if _, err := os.Stat(filepath.Join(diff, "precious")); err != nil {
		t.Error(err)
	}
	wantNames(t, root, "tmp", 0)
	if n := len(mountsIn(t, root, "tmp")); n != 0 {
		t.Errorf("%d mounts are left in tmp/", n)
	}
}
