package kernels

import (
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/go-dmverity/pkg/dm"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// What is where in the guest.
const (
	envGuest     = "CRIO_EROFS_TEST_IN_GUEST"
	guestProgram = "/bin/kernels.test"
	guestDisks   = "/disks"
)

// TestInGuest is what runs in the VM.
func TestInGuest(t *testing.T) {
	if os.Getenv(envGuest) == "" {
		t.Skip("TestKernels runs this in VMs")
	}
	kernel := kernelVersion(t)
	f, err := os.Open(guestDisks)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var disks []disk
	if err := gob.NewDecoder(f).Decode(&disks); err != nil {
		t.Fatal(err)
	}
	for _, d := range disks {
		device := find(t, d.Name)
		t.Run(d.Name, func(t *testing.T) { compare(t, d, device, kernel) })
		t.Run(d.Name+"-verity", func(t *testing.T) { compare(t, d, openVerity(t, d, device), kernel) })
	}
}

func kernelVersion(t *testing.T) version {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	v, err := parseVersion(release)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("Linux", release)
	return v
}

// find returns the disk with this serial number.
func find(t *testing.T, serial string) string {
	t.Helper()
	for range 100 {
		names, _ := filepath.Glob("/sys/block/vd*/serial")
		for _, name := range names {
			if b, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(b)) == serial {
				return filepath.Join("/dev", filepath.Base(filepath.Dir(name)))
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("no disk with serial number %s", serial)
	return ""
}

// compare mounts a device and wants to see what the disk's description has; or a refusal, of a kernel that is too old.
func compare(t *testing.T, d disk, device string, kernel version) {
	dir := "/mnt-" + filepath.Base(device)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	err := unix.Mount(device, dir, "erofs", unix.MS_RDONLY, "")
	if d.Layout == volume.LayoutTarfs && kernel.before(minTarfs) && errors.Is(err, unix.EINVAL) {
		t.Log("refused, as it should be; a kernel with later patches may take it, and must then show all of it")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := tree.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) < 2 {
		t.Errorf("%d entries", len(got))
	}
	for _, line := range tree.Diff(d.Entries, got, nil) {
		t.Error(line)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Error(err)
	}
	t.Logf("%d entries", len(got))
}

// openVerity opens a disk with dm-verity, from its root hash, and returns the device.
func openVerity(t *testing.T, d disk, device string) string {
	t.Helper()
	digest, err := hex.DecodeString(d.Verity.RootHash)
	if err != nil {
		t.Fatal(err)
	}
	v := d.Verity
	params, err := dm.BuildTargetParams(dm.OpenArgs{
		Version: uint32(v.HashType), DataDevice: device, HashDevice: device, HashName: v.Algorithm, RootDigest: digest,
		DataBlockSize: v.DataBlockSize, HashBlockSize: v.HashBlockSize, DataBlocks: v.DataBlocks, HashStartBytes: v.TreeOffset,
	})
	if err != nil {
		t.Fatal(err)
	}
	control, err := dm.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	number, err := control.CreateDevice(d.Name)
	if err != nil {
		t.Fatal(err)
	}
	target := dm.Target{Length: v.DataBlocks * uint64(v.DataBlockSize) / 512, Type: "verity", Params: params}
	if err := control.LoadTable(d.Name, []dm.Target{target}); err != nil {
		t.Fatalf("table %q: %v", params, err)
	}
	if err := control.SuspendDevice(d.Name, false); err != nil {
		t.Fatal(err)
	}
	node := fmt.Sprintf("/dev/verity-%s", d.Name)
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(number)); err != nil {
		t.Fatal(err)
	}
	return node
}
