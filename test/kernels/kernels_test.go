package kernels

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/corpus"
	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/standin/guest"
	"github.com/crio-erofs/crio-erofs/test/tree"
	"github.com/crio-erofs/crio-erofs/test/vmrun"
)

// envKernels names further kernels, separated by colons: folders with boot/vmlinuz-* and lib/modules, as Debian's and
// Ubuntu's packages unpack to.
const envKernels = "CRIO_EROFS_TEST_KERNELS"

// suites are releases of Debian: Linux 5.10 and 6.12. On 6.1, which is between them, test/standin and test/vmrun run.
var suites = []string{"bullseye", "trixie"}

// minTarfs is the first kernel that mounts images with blocks smaller than its pages, and so the layout tarfs.
var minTarfs = version{6, 4}

// disk is a volume for the guest. The guest finds a file with this in gob: names and attributes are not always UTF-8.
type disk struct {
	Name    string // serial number of the disk
	Layout  volume.Layout
	Verity  volume.Verity
	Entries map[string]tree.Entry // what it must show
}

// TestKernels mounts volumes on each kernel, on the disk itself and over dm-verity, and compares all they show with what
// GNU tar extracts.
func TestKernels(t *testing.T) {
	tree.RequireRoot(t)
	for _, tool := range []string{"apt-get", "dpkg-deb", "qemu-system-x86_64", "tar"} {
		tree.RequireTool(t, tool)
	}
	cache, err := env.Cache()
	if err != nil {
		t.Fatal(err)
	}
	disks, files := makeDisks(t)
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			root, err := corpus.Kernel(t.Context(), cache, suite)
			if errors.Is(err, corpus.ErrNoSuite) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			runGuest(t, cache, root, disks, files)
		})
	}
	for _, root := range filepath.SplitList(os.Getenv(envKernels)) {
		t.Run(filepath.Base(root), func(t *testing.T) { runGuest(t, cache, root, disks, files) })
	}
}

// makeDisks makes the volumes, the file that describes them and the test program for the guest.
func makeDisks(t *testing.T) (disks []vmrun.Disk, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	lower, upper := makeTar(t, dir, "lower", lowerTree), makeTar(t, dir, "upper", upperTree)
	golden, err := filepath.Abs("../../driver/volume/testdata/golden.tar")
	if err != nil {
		t.Fatal(err)
	}
	var described []disk
	add := func(d disk, path string) {
		described = append(described, d)
		disks = append(disks, vmrun.Disk{Path: path, Serial: d.Name, ReadOnly: true})
	}
	for i, tarFile := range []string{golden, lower} {
		for _, layout := range volume.Layouts {
			name := fmt.Sprintf("%s%d", layout, i)
			path, d := build(t, dir, name, tarFile, layout)
			add(disk{Name: name, Layout: layout, Verity: *d.Verity, Entries: extract(t, tarFile)}, path)
		}
	}
	path, d := merge(t, dir, lower, upper)
	entries, err := tree.Read(tree.MountVolume(t, path)) // driver/volume compares those with an overlay of the layers
	if err != nil {
		t.Fatal(err)
	}
	add(disk{Name: "merged", Layout: d.Layout, Verity: *d.Verity, Entries: entries}, path)

	program, list := filepath.Join(dir, "kernels.test"), filepath.Join(dir, "disks")
	cmd := exec.Command("go", "test", "-c", "-o", program, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, err, out)
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(described); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return disks, map[string]string{guestProgram: program, guestDisks: list}
}

// Layers with directories of many blocks, with data beyond the first megabytes, and with deletions.
const (
	lowerTree = `mkdir -p many/d deep/a/b/c gone && for i in $(seq 400); do echo $i > "many/a file with a rather long name $i"; done
		head -c 6000000 /dev/urandom > large; truncate -s 3M hole; echo end >> hole; echo 1 > gone/1; echo x > deep/a/b/c/x
		ln large many/link; ln -s "$(head -c 4090 /dev/zero | tr '\0' t)" longest; chown 70000:80000 many/d; mknod null c 1 3`
	upperTree = `mkdir -p many deep/a new && : > .wh.gone && : > many/.wh.link && : > deep/a/.wh..wh..opq && echo 2 > deep/a/2 && echo 3 > new/3`
)

func makeTar(t *testing.T, dir, name, script string) string {
	t.Helper()
	src, path := filepath.Join(dir, name), filepath.Join(dir, name+".tar")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "bash", "-c", "set -e; cd "+src+"; "+script+"; find . -exec touch -h -d '2022-02-02 02:02:02.5' {} +")
	run(t, "tar", "--format=pax", "--sparse", "-C", src, "-cf", path, ".")
	return path
}

func build(t *testing.T, dir, name, tarFile string, layout volume.Layout) (string, *volume.Description) {
	t.Helper()
	in, err := os.Open(tarFile)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	path := filepath.Join(dir, name+".erofs")
	d, err := volume.Create(path, in, volume.BuildOptions{Layout: layout})
	if err != nil {
		t.Fatal(err)
	}
	return path, d
}

func merge(t *testing.T, dir string, tars ...string) (path string, d *volume.Description) {
	t.Helper()
	var layers []volume.Layer
	for i, tarFile := range tars {
		layer, _ := build(t, dir, fmt.Sprint("layer", i), tarFile, volume.LayoutAligned)
		f, err := os.Open(layer)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		layers = append(layers, volume.Layer{File: f})
	}
	path = filepath.Join(dir, "merged.erofs")
	err := volume.WriteFile(path, func(out *os.File) (err error) {
		d, _, err = volume.Merge(t.Context(), out, layers)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return path, d
}

// extract returns what GNU tar makes of a tar.
func extract(t *testing.T, tarFile string) map[string]tree.Entry {
	t.Helper()
	dir := t.TempDir()
	run(t, "tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "-p", "-C", dir, "-xf", tarFile)
	entries, err := tree.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// runGuest boots the kernel and runs TestInGuest in the VM.
func runGuest(t *testing.T, cache, root string, disks []vmrun.Disk, files map[string]string) {
	t.Helper()
	dir := os.Getenv(guest.EnvDir)
	if dir == "" {
		dir = filepath.Join(cache, "guest")
	}
	kernel, err := guest.BuildOther(t.Context(), dir, ".", guest.Other{
		Name: "kernels", Init: "github.com/crio-erofs/crio-erofs/test/vmrun/cmd/vmrun-init", Root: root,
		Modules: []string{"virtio_pci", "virtio_console", "virtio_blk", "dm_verity", "erofs"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	exit, err := vmrun.Run(t.Context(), vmrun.Config{
		Guest: kernel, Files: files, Disks: disks, Output: &output,
		Plan: vmrun.Plan{Args: []string{guestProgram, "-test.v", "-test.run", "^TestInGuest$"},
			Env: []string{envGuest + "=1"}, Dir: "/"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if exit != 0 || !strings.Contains(output.String(), "--- PASS: TestInGuest ") {
		t.Errorf("exit status %d", exit)
	}
	t.Log(output.String())
}

// version is a kernel's, as far as uname tells it.
type version [2]int

func (v version) before(o version) bool { return v[0] < o[0] || v[0] == o[0] && v[1] < o[1] }

func parseVersion(release string) (v version, err error) {
	parts := strings.FieldsFunc(release, func(r rune) bool { return r < '0' || r > '9' })
	if len(parts) < 2 {
		return v, fmt.Errorf("release %q", release)
	}
	for i := range v {
		if v[i], err = strconv.Atoi(parts[i]); err != nil {
			return v, err
		}
	}
	return v, nil
}
