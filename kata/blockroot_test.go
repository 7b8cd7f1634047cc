package kata

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
)

// Devices of the test's host: the root file system, an overlay's, a partition, and a container's own.
const (
	devRoot = iota + 1
	devOverlay
	devPartition
	devOwn
)

// host is where the test's devices are mounted.
func host(mounts map[string]int) *BlockProbe {
	p := &BlockProbe{IsBlockDevice: func(d uint64) (bool, error) { return d != devOverlay, nil }}
	p.Device = func(path string) (uint64, error) {
		for at := path; ; at = filepath.Dir(at) {
			if d, ok := mounts[at]; ok {
				return uint64(d), nil
			}
			if at == "/" {
				return devRoot, nil
			}
		}
	}
	for at, d := range mounts {
		p.Mounts = append(p.Mounts, &mountinfo.Info{Mountpoint: at, Source: fmt.Sprintf("/dev/vd%d", d), FSType: "xfs"})
	}
	return p
}

// TestBlockRootMatrix is the test matrix of kata-containers/runtime#1325: overlay, a graph driver that has the rootfs
// below its device (Docker's devicemapper) and a snapshotter whose device is the rootfs, each reached by the OCI command
// line or by shimv2 (the runtime sees no difference: the host has mounted it), with block devices off and on, under a
// hypervisor that can hot-plug and one that cannot.
func TestBlockRootMatrix(t *testing.T) {
	const below = "/var/lib/docker/devicemapper/mnt/999"
	const direct = "/run/containerd/io.containerd.runtime.v2.task/default/hello/rootfs"
	const merged = "/var/lib/containers/storage/overlay/abc/merged"
	shared := &BlockRoot{}
	rows := []struct {
		name, target string
		mounts       map[string]int
		want         *BlockRoot
		rs           string // why runtime-rs cannot have it, "" if it can
	}{
		{"1 and 4, overlay", merged, map[string]int{merged: devOverlay}, shared, "not on a block device of its own"},
		{"2, graph driver", below + "/rootfs", map[string]int{below: devOwn},
			&BlockRoot{Device: "/dev/vd4", FSType: "xfs", Suffix: "rootfs"}, "takes the device's root only"},
		{"3 and 5, snapshotter", direct, map[string]int{direct: devOwn}, &BlockRoot{Device: "/dev/vd4", FSType: "xfs"}, ""},
	}
	for _, row := range rows {
		for _, noBlock := range []bool{true, false} {
			for vmm, hotPlug := range map[string]bool{"qemu": true, "remote": false} {
				want := row.want
				if noBlock || !hotPlug {
					want = shared
				}
				name := fmt.Sprintf("%s, disable_block_device_use %t, %s", row.name, noBlock, vmm)
				got, err := host(row.mounts).BlockRoot(row.target, &Target{Hypervisor: vmm, NoBlockDevices: noBlock})
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
					continue
				}
				checkBlockRootfs(t, name, got, row.rs)
			}
		}
	}
}

func checkBlockRootfs(t *testing.T, name string, b *BlockRoot, rsRefusal string) {
	t.Helper()
	if b.Shared() {
		rsRefusal = "not on a block device of its own"
	}
	mounts, err := b.Rootfs(DialectGo)
	if mounts != nil || (err == nil) == b.Shared() {
		t.Errorf("%s, Go runtime: %+v, %v", name, mounts, err)
	}
	mounts, err = b.Rootfs(DialectRuntimeRS)
	if rsRefusal != "" {
		if err == nil || !strings.Contains(err.Error(), rsRefusal) {
			t.Errorf("%s, runtime-rs: %+v, %v; want %q", name, mounts, err, rsRefusal)
		}
		return
	}
	if want := []Mount{{Type: "xfs", Source: "/dev/vd4"}}; err != nil || !reflect.DeepEqual(mounts, want) {
		t.Errorf("%s, runtime-rs: %+v, %v; want %+v", name, mounts, err, want)
	}
}

// TestBlockRootTraps: Kata would plug in a partition that is not the container's alone.
func TestBlockRootTraps(t *testing.T) {
	for _, c := range []struct {
		name, target string
		mounts       map[string]int
		want         string // of the error; "": the directory is shared
	}{
		{"directory of a partition", "/var/lib/containers/storage/vfs/dir/abc", map[string]int{"/var/lib": devPartition},
			"Kata would plug in all of it and take /var/lib/rootfs for the rootfs"},
		{"rootfs two levels down", "/mnt/1/rootfs", map[string]int{"/mnt": devPartition}, "would plug in all of it"},
		{"on the root file system", "/containers/abc", nil, ""},
		{"unseen bind mount", "/data/b", map[string]int{"/data": devPartition, "/data/b": devPartition}, "would plug in all of it"},
	} {
		got, err := host(c.mounts).BlockRoot(c.target, &Target{Hypervisor: "qemu"})
		if c.want == "" && (err != nil || !got.Shared()) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %+v, %v; want %q", c.name, got, err, c.want)
		}
	}
	gone := host(map[string]int{"/mnt": devOwn})
	gone.Mounts = nil
	if got, err := gone.BlockRoot("/mnt", &Target{}); err == nil || !strings.Contains(err.Error(), "not in the mount table") {
		t.Errorf("not mounted: %+v, %v", got, err)
	}
	broken := &BlockProbe{Device: func(string) (uint64, error) { return 0, errors.New("no such file") }}
	if got, err := broken.BlockRoot("/mnt", &Target{}); err == nil {
		t.Errorf("unreadable: %+v", got)
	}
}
