package disks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/clitest"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/target"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

func volumes(t *testing.T) []string {
	return []string{
		clitest.Volume(t, volume.LayoutAligned, clitest.Tar(t, clitest.File("a", "below"), clitest.File("gone", ""), clitest.File("big", strings.Repeat("x", 3<<20)))),
		clitest.Volume(t, volume.LayoutAligned, clitest.Tar(t, clitest.File("a", "above"), clitest.File(".wh.gone", ""))),
	}
}

func export(t *testing.T, args ...string) *exported {
	t.Helper()
	e := &exported{}
	if err := json.Unmarshal([]byte(clitest.MustExecute(t, Commands(), append([]string{"export", "--format", "json"}, args...)...)), e); err != nil {
		t.Fatal(err)
	}
	return e
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestExportGPT: sfdisk finds the partitions, and has nothing to say against the table; they have the volumes.
func TestExportGPT(t *testing.T) {
	tree.RequireTool(t, "sfdisk")
	paths := volumes(t)
	out := filepath.Join(t.TempDir(), "disk.img")
	e := export(t, "--type", "gpt", strings.Join(paths, ","), out)
	verify, err := exec.Command("sfdisk", "--verify", out).CombinedOutput()
	if err != nil || !strings.Contains(string(verify), "No errors detected") {
		t.Errorf("%v: %s", err, verify)
	}
	dump, err := exec.Command("sfdisk", "--json", out).Output()
	if err != nil {
		t.Fatal(err)
	}
	var found struct {
		PartitionTable struct {
			Label      string `json:"label"`
			Partitions []struct {
				Start int64  `json:"start"`
				Size  int64  `json:"size"`
				Type  string `json:"type"`
				Name  string `json:"name"`
			} `json:"partitions"`
		} `json:"partitiontable"`
	}
	if err := json.Unmarshal(dump, &found); err != nil {
		t.Fatal(err)
	}
	parts := found.PartitionTable.Partitions
	if found.PartitionTable.Label != "gpt" || len(parts) != 2 || len(e.Volumes) != 2 {
		t.Fatalf("%s; %+v", dump, e)
	}
	disk := read(t, out)
	for i, path := range []string{paths[1], paths[0]} { // the topmost first
		p := parts[i]
		content := disk[p.Start*512 : (p.Start+p.Size)*512]
		if !bytes.Equal(content, read(t, path)) || p.Start%2048 != 0 || p.Type != "0FC63DAF-8483-4772-8E79-3D69D8477DE4" {
			t.Errorf("partition %d: %+v", i+1, p)
		}
		if want := "-s" + filepath.Base(filepath.Dir(path)); !strings.HasPrefix(p.Name, "erofs-") || !strings.Contains(p.Name, want) {
			t.Errorf("label %s; want %s in it", p.Name, want)
		}
		v := e.Volumes[i]
		if v.Start != p.Start*512 || v.Partition != i+1 || v.RootHash == "" || string(content[v.HashOffset:][:6]) != "verity" {
			t.Errorf("%+v", v)
		}
	}
	again := filepath.Join(t.TempDir(), "disk.img")
	export(t, "--type", "gpt", strings.Join(paths, ","), again)
	if !bytes.Equal(disk, read(t, again)) {
		t.Error("the same volumes give another disk")
	}
}

// TestExportVMDK: QEMU reads the descriptor as the disk that --type gpt writes.
func TestExportVMDK(t *testing.T) {
	tree.RequireTool(t, "qemu-img")
	ref := strings.Join(volumes(t), ",")
	dir := t.TempDir()
	vmdk, raw, back := filepath.Join(dir, "disk.vmdk"), filepath.Join(dir, "disk.img"), filepath.Join(dir, "back.img")
	export(t, "--type", "vmdk", ref, vmdk)
	export(t, "--type", "gpt", ref, raw)
	if text, err := exec.Command("qemu-img", "convert", "-f", "vmdk", "-O", "raw", vmdk, back).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if !bytes.Equal(read(t, raw), read(t, back)) {
		t.Error("the disk that the descriptor gives is another one")
	}
	if fi, err := os.Stat(vmdk + "-tables.img"); err != nil || fi.Size() != (2*alignment+backupSectors)*sectorSize {
		t.Errorf("%v, %v", fi, err)
	}
}

// TestExportImage: an image is one volume, as its image volume or merged, and as a QCOW2.
func TestExportImage(t *testing.T) {
	tree.RequireTool(t, "qemu-img")
	layers := [][]byte{clitest.Tar(t, clitest.File("a", "1")), clitest.Tar(t, clitest.File("b", "2"))}
	store := clitest.Store(t, clitest.ImageOf(t, layers...))
	dir := t.TempDir()
	merged, stored, qcow2, back := filepath.Join(dir, "m"), filepath.Join(dir, "s"), filepath.Join(dir, "q.qcow2"), filepath.Join(dir, "b")
	flags := []string{"--graphroot", store.GraphRoot(), "app:1"}
	first := export(t, append(flags, merged)...)
	img, err := store.Image("example.com/app:1")
	if err != nil {
		t.Fatal(err)
	}
	c, err := store.CreateContainer("", nil, img.ID, "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Mount(c.ID, ""); err != nil { // makes the image volume
		t.Fatal(err)
	}
	second := export(t, append(flags, stored)...)
	if first.Volumes[0] != second.Volumes[0] || !bytes.Equal(read(t, merged), read(t, stored)) {
		t.Errorf("%+v, %+v", first, second)
	}
	export(t, append(flags, qcow2)...)
	if text, err := exec.Command("qemu-img", "convert", "-f", "qcow2", "-O", "raw", qcow2, back).CombinedOutput(); err != nil ||
		!bytes.Equal(read(t, back), read(t, merged)) {
		t.Errorf("%v: %s", err, text)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 4 {
		t.Errorf("%v, %v", names, err)
	}
}

// TestExportLeavesNothing: neither an interrupted nor a failed export leaves anything.
func TestExportLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	paths := volumes(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, diskType := range []string{typeRaw, typeGPT, typeQCOW2} {
		cmd := newExportCommand()
		cmd.SetArgs([]string{"--type", diskType, strings.Join(paths, ","), filepath.Join(dir, "x")})
		cmd.SetOut(io.Discard)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		if err := cmd.ExecuteContext(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", diskType, err)
		}
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, diskType := range diskTypes {
		clitest.Refuse(t, Commands(), "export "+bad, "export", "--type", diskType, bad, filepath.Join(dir, "x"))
	}
	clitest.Refuse(t, Commands(), "want one of raw, gpt", "export", "--type", "iso", bad, filepath.Join(dir, "x"))
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
}

// TestExportKeepsWhatItReads: above all a VMDK, which names it.
func TestExportKeepsWhatItReads(t *testing.T) {
	paths := volumes(t)
	before := read(t, paths[1])
	for _, diskType := range diskTypes {
		clitest.Refuse(t, Commands(), "would be replaced", "export", "--type", diskType, strings.Join(paths, ","), paths[1])
	}
	tables := filepath.Join(t.TempDir(), "x-tables.img")
	if err := os.WriteFile(tables, before, 0o600); err != nil {
		t.Fatal(err)
	}
	clitest.Refuse(t, Commands(), "would be replaced", "export", "--type", "vmdk", tables, strings.TrimSuffix(tables, "-tables.img"))
	if !bytes.Equal(read(t, paths[1]), before) {
		t.Error("the volume is another one")
	}
}

// TestExportHeedsUmask: in a process of its own, for the umask is the whole process's.
func TestExportHeedsUmask(t *testing.T) {
	out := filepath.Join(t.TempDir(), "x")
	if ref := os.Getenv("TEST_EXPORT"); ref != "" {
		unix.Umask(0o077)
		export(t, ref, os.Getenv("TEST_OUT"))
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestExportHeedsUmask$")
	cmd.Env = append(os.Environ(), "TEST_EXPORT="+volumes(t)[0], "TEST_OUT="+out)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if fi, err := os.Stat(out); err != nil || fi.Mode() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
}

func TestTypeOf(t *testing.T) {
	for _, c := range [][3]string{{"", "x", typeRaw}, {"", "x.img", typeRaw}, {"", "a/x.qcow2", typeQCOW2}, {"", "x.vmdk", typeVMDK},
		{"", "x.gpt", typeGPT}, {typeRaw, "x.qcow2", typeRaw}, {"", "x.raw", typeRaw}, {"", "qcow2", typeRaw}} {
		if got := typeOf(c[0], c[1]); got != c[2] {
			t.Errorf("%q", append(c[:], got))
		}
	}
}

func TestTableLimits(t *testing.T) {
	if _, err := newTable(make([]partition, 129)); err == nil {
		t.Error("129 partitions")
	}
	if _, err := newTable([]partition{{name: strings.Repeat("é", 37), sectors: 1}}); err == nil {
		t.Error("a label of 37 characters")
	}
	text, _, err := descriptor([]segment{{path: "/a", sectors: 2*maxExtent + 1}}, "t")
	if err != nil || !strings.Contains(text, "RW 4194304 FLAT \"/a\" 0\nRW 4194304 FLAT \"/a\" 4194304\nRW 1 FLAT \"/a\" 8388608\n") {
		t.Errorf("%v, %s", err, text)
	}
	if _, _, err := descriptor([]segment{{path: "/a\"b", sectors: 1}}, "t"); err == nil {
		t.Error("a path with a quote")
	}
	if _, _, err := descriptor(nil, "t\""); err == nil {
		t.Error("a file of tables with a quote")
	}
}

// TestMount: the kernel shows what is asked for, and all of it is gone afterwards, also after failures.
func TestMount(t *testing.T) {
	tree.RequireRoot(t)
	paths, dir := volumes(t), t.TempDir()
	before := mounts(t, dir)
	for _, by := range mountModes {
		for _, c := range []struct {
			ref, want string
			gone      bool
		}{{paths[0], "below", false}, {strings.Join(paths, ","), "above", true}} {
			clitest.MustExecute(t, Commands(), "mount", "--verify", "--by", by, c.ref, dir)
			got := read(t, filepath.Join(dir, "a"))
			_, err := os.Lstat(filepath.Join(dir, "gone"))
			if string(got) != c.want || os.IsNotExist(err) != c.gone {
				t.Errorf("%s %s: %s, %v", by, c.ref, got, err)
			}
			if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("%s %s: write: %v", by, c.ref, err)
			}
			if n := len(mounts(t, dir)); n != len(before)+1 {
				t.Errorf("%s %s: %d mounts more", by, c.ref, n-len(before))
			}
			clitest.MustExecute(t, Commands(), "umount", dir)
		}
	}
	damaged := filepath.Join(t.TempDir(), "damaged")
	if err := os.WriteFile(damaged, append(make([]byte, 4096), read(t, paths[0])[4096:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	clitest.Refuse(t, Commands(), damaged, "mount", paths[0]+","+damaged, dir)
	clitest.Refuse(t, Commands(), volume.ErrOtherVolume.Error(), "mount", "--root-hash", strings.Repeat("0", 64), paths[0], dir)
	clitest.Refuse(t, Commands(), "of one volume", "mount", "--root-hash", strings.Repeat("0", 64), strings.Join(paths, ","), dir)
	clitest.Refuse(t, Commands(), "64 hex digits", "mount", "--root-hash", "x", paths[0], dir)
	clitest.Refuse(t, Commands(), "want one of auto", "mount", "--by", "x", paths[0], dir)
	clitest.Refuse(t, Commands(), "not a directory", "mount", paths[0], damaged)
	clitest.Refuse(t, Commands(), "nothing is mounted", "umount", dir)
	clitest.MustExecute(t, Commands(), "mount", paths[0], dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	clitest.Refuse(t, Commands(), "(tmpfs, tmpfs) is no volume", "umount", dir)
	if err := unix.Unmount(dir, 0); err != nil {
		t.Error(err)
	}
	clitest.MustExecute(t, Commands(), "umount", dir)
	clitest.Refuse(t, Commands(), "is no volume", "umount", "/proc")
	if after := mounts(t, dir); !slices.Equal(after, before) {
		t.Errorf("mounts before %q, after %q", before, after)
	}
}

func TestMountImage(t *testing.T) {
	whiteout := clitest.Tar(t, clitest.File("a", "1"), clitest.File(".wh.b", ""))
	store := clitest.Store(t, clitest.ImageOf(t, whiteout))
	dir := t.TempDir()
	clitest.MustExecute(t, Commands(), "mount", "--graphroot", store.GraphRoot(), "--verify", "app:1", dir)
	defer clitest.MustExecute(t, Commands(), "umount", "--lazy", dir)
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 1 || names[0].Name() != "a" {
		t.Errorf("%v, %v", names, err)
	}
	f, err := os.Open(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	clitest.Refuse(t, Commands(), "fuser", "umount", dir)
	if got, err := target.Find(nil, filepath.Join(dir, "a")); err != nil || got.Stacked {
		t.Errorf("%+v, %v", got, err)
	}
}

func mounts(t *testing.T, below string) (points []string) {
	t.Helper()
	all, err := mountinfo.GetMounts(mountinfo.PrefixFilter(filepath.Dir(below)))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		points = append(points, m.Mountpoint)
	}
	return points
}
