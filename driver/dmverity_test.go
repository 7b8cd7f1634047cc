package driver_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/go-dmverity/pkg/dm"
	graphdriver "github.com/containers/storage/drivers"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// needDM skips a test on kernels without device-mapper. Package vmrun runs it on one that has it.
func needDM(t *testing.T) *dm.Control {
	t.Helper()
	needRoot(t)
	control, err := dm.Open()
	if err != nil {
		t.Skipf("this kernel has no device-mapper: %v", err)
	}
	t.Cleanup(func() { control.Close() })
	return control
}

// devices lists the driver's devices. The kernel removes one a moment after its last user.
func devices(t *testing.T, want int) []string {
	t.Helper()
	var found []string
	for range 100 {
		found = nil
		names, err := filepath.Glob("/sys/block/dm-*/dm/name")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range names {
			if b, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(b), "crio-erofs-") {
				found = append(found, strings.TrimSpace(string(b)))
			}
		}
		if len(found) == want {
			return found
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("devices %v, want %d", found, want)
	return found
}

// TestHostVerity runs containers on the host over dm-verity: their files are checked against the root hash, the
// device is shared, and nothing is left when the last of them stops.
func TestHostVerity(t *testing.T) {
	control := needDM(t)
	for _, layout := range []string{"aligned", "tarfs"} {
		t.Run(layout, func(t *testing.T) {
			if !hasFS512() && layout == "tarfs" {
				t.Log("this kernel cannot mount volumes of layout tarfs: left out")
				return
			}
			testHostVerity(t, control, layout)
		})
	}
}

// hasFS512 says whether EROFS can have blocks of 512 bytes: since Linux 6.4.
func hasFS512() bool {
	var name unix.Utsname
	return unix.Uname(&name) == nil && !strings.HasPrefix(unix.ByteSliceToString(name.Release[:]), "6.1.")
}

func testHostVerity(t *testing.T, control *dm.Control, layout string) {
	options := []string{"erofs.host_verity=on", "erofs.layout=" + layout}
	d, root := newDriver(t, options...)
	big := strings.Repeat("0123456789abcdef", 1<<16)
	apply(t, d, "base", "", makeTar(t, file{name: "big", content: big}))
	apply(t, d, "top", "base", makeTar(t, file{name: "small", content: "x"}))
	for _, id := range []string{"c", "other"} {
		if err := d.CreateReadWrite(id, "top", nil); err != nil {
			t.Fatal(err)
		}
	}
	merged := get(t, d, "c")
	// A process of another store that has the same volume shares the device.
	second, _ := newDriver(t, options...)
	apply(t, second, "base", "", makeTar(t, file{name: "big", content: big}))
	get(t, second, "base")
	get(t, d, "other")
	for _, name := range devices(t, 2) {
		wantTable(t, control, root, name)
	}
	for _, m := range mountsIn(t, root, "mounts") {
		if !strings.HasPrefix(m.Source, "/dev/dm-") || m.FSType != "erofs" {
			t.Errorf("%s is a mount of %s (%s)", m.Mountpoint, m.Source, m.FSType)
		}
	}
	if b, err := os.ReadFile(filepath.Join(merged, "big")); err != nil || string(b) != big {
		t.Errorf("big: %d bytes, %v", len(b), err)
	}

	// A block that is not what it was is an error for whoever reads it, and the other files stay readable.
	v := firstVolume(t, merged)
	changeByte(t, v.Path, []byte("0123456789abcdef"))
	if _, err := os.ReadFile(filepath.Join(merged, "big")); !errors.Is(err, unix.EIO) {
		t.Errorf("reading a damaged file: %v, want EIO", err)
	}
	if b, err := os.ReadFile(filepath.Join(merged, "small")); err != nil || string(b) != "x" {
		t.Errorf("small: %q, %v", b, err)
	}
	name := "crio-erofs-" + filepath.Base(filepath.Dir(v.Path))
	if status, err := control.TableStatus(name, false); err != nil || !strings.HasPrefix(status, "C") {
		t.Errorf("status of the device: %q, %v; want C, for corrupted", status, err)
	}

	put(t, d, "c")
	put(t, second, "base")
	devices(t, 2)
	put(t, d, "other")
	devices(t, 0)
}

// wantTable compares a device's table with what the manifest's volume says.
func wantTable(t *testing.T, control *dm.Control, root, name string) {
	t.Helper()
	table, err := control.TableStatus(name, true)
	if err != nil {
		t.Fatal(err)
	}
	sub := filepath.Join("volumes", strings.TrimPrefix(name, "crio-erofs-"))
	verity, err := os.ReadFile(filepath.Join(root, driver.Name, sub, volume.VerityFileName))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(table)
	if len(fields) != 10 || fields[7] != "sha256" || fields[9] != "-" || !bytes.Contains(verity, []byte(fields[8])) {
		t.Errorf("%s has table %q, the volume %s", name, table, verity)
	}
}

// firstVolume returns the lowest volume of a container's manifest.
func firstVolume(t *testing.T, merged string) volume.ManifestVolume {
	t.Helper()
	m, err := volume.ReadManifest(merged)
	if err != nil {
		t.Fatal(err)
	}
	return m.Volumes[0]
}

// changeByte changes a byte in the middle of a volume, in a stretch of this content, and drops what the kernel has
// cached.
func changeByte(t *testing.T, path string, around []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := len(b)/4 + bytes.Index(b[len(b)/4:], around)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{b[at] ^ 1}, int64(at)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		t.Fatal(err)
	}
}

// TestHostVeritySwitchedOn has a container from before the option was set: those that start afterwards do not share its
// host mount, which checks nothing.
func TestHostVeritySwitchedOn(t *testing.T) {
	needDM(t)
	d, root := newDriver(t)
	apply(t, d, "base", "", makeTar(t, file{name: "a", content: "a"}))
	for _, id := range []string{"before", "after"} {
		if err := d.CreateReadWrite(id, "base", nil); err != nil {
			t.Fatal(err)
		}
	}
	before := get(t, d, "before")
	d = reopen(t, root, "erofs.host_verity=on")
	after := get(t, d, "after")
	mounts := mountsIn(t, root, "mounts")
	if len(mounts) != 1 || !strings.HasPrefix(mounts[0].Source, "/dev/dm-") {
		t.Errorf("host mounts %+v, want one of a device-mapper device", mounts)
	}
	for _, merged := range []string{before, after} {
		if b, err := os.ReadFile(filepath.Join(merged, "a")); err != nil || string(b) != "a" {
			t.Errorf("%q, %v", b, err)
		}
	}
	put(t, d, "before")
	put(t, d, "after")
	if n := len(mountsIn(t, root, "")); n != 0 {
		t.Errorf("%d mounts left", n)
	}
	devices(t, 0)
}

// TestHostVerityLeftover wants devices removed that a crash has left, and others spared.
func TestHostVerityLeftover(t *testing.T) {
	control := needDM(t)
	d, root := newDriver(t, "erofs.host_verity=on")
	apply(t, d, "base", "", makeTar(t, file{name: "a", content: "a"}))
	get(t, d, "base")
	for _, name := range []string{"crio-erofs-0123456789abcdef01234567", "somebody-elses"} {
		if _, err := control.CreateDevice(name); err != nil {
			t.Fatal(err)
		}
	}
	defer control.RemoveDevice("somebody-elses")
	again := reopen(t, root, "erofs.host_verity=on")
	devices(t, 1)
	if _, err := control.DeviceStatus("somebody-elses"); err != nil {
		t.Error(err)
	}
	if _, err := os.ReadFile(filepath.Join(get(t, again, "base"), "a")); err != nil {
		t.Error(err)
	}
	put(t, again, "base")
	put(t, d, "base")
	devices(t, 0)
}

// TestHostVerityForeign wants a device of the right name and the wrong content refused.
func TestHostVerityForeign(t *testing.T) {
	control := needDM(t)
	d, _ := newDriver(t, "erofs.host_verity=on")
	apply(t, d, "base", "", makeTar(t, file{name: "a", content: "a"}))
	merged := get(t, d, "base")
	name := devices(t, 1)[0]
	if mounted, err := mountinfo.Mounted(merged); err != nil || !mounted {
		t.Fatal(mounted, err)
	}
	put(t, d, "base")
	devices(t, 0)
	if _, err := control.CreateDevice(name); err != nil {
		t.Fatal(err)
	}
	defer control.RemoveDevice(name)
	if err := control.LoadTable(name, []dm.Target{{Length: 8, Type: "error"}}); err != nil {
		t.Fatal(err)
	}
	if err := control.SuspendDevice(name, false); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get("base", graphdriver.MountOpts{}); err == nil || !strings.Contains(err.Error(), "another table") {
		t.Errorf("error %v", err)
	}
}

// TestHostVerityRefused wants what does not go together refused, and kernels without device-mapper with the way out.
func TestHostVerityRefused(t *testing.T) {
	needRoot(t)
	for _, option := range []string{"erofs.verity=off", "erofs.mount=file"} {
		if _, err := openDriver(t.TempDir(), "erofs.host_verity=on", option); err == nil ||
			!strings.Contains(err.Error(), "do not go together") {
			t.Errorf("%s: %v", option, err)
		}
	}
	if _, err := os.Stat("/dev/mapper/control"); err == nil {
		return
	}
	_, err := openDriver(t.TempDir(), "erofs.host_verity=on")
	if err == nil || !strings.Contains(err.Error(), "modprobe") {
		t.Errorf("without device-mapper: %v", err)
	}
}
