package rootfs_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types"

	"github.com/crio-erofs/crio-erofs/test/standin/rootfs"
)

// virtual is a mount of virtual volumes.
func virtual(volumes ...string) []*types.Mount {
	m := mount("fuse.nydus-overlayfs", "overlay", "lowerdir=/ignored")
	for _, v := range volumes {
		m.Options = append(m.Options, "io.katacontainers.volume="+base64.StdEncoding.EncodeToString([]byte(v)))
	}
	return []*types.Mount{m}
}

func TestVolumes(t *testing.T) {
	const top = `{"volume_type":"layer_raw_block","source":"/t","fs_type":"erofs","options":["ro"],"dm_verity":{"hash":"00"}}`
	const bottom = `{"volume_type":"layer_raw_block","source":"/b","fs_type":"erofs","options":["ro"]}`
	p, err := rootfs.New("cid", virtual(top, bottom), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := p.At([]string{"0:3", "0:4"})
	const dir = "/run/kata-containers/virtual-volumes/containers/cid/"
	if p.Kind != rootfs.KindVolumes || len(s) != 3 || s[0].Driver != "dmverity" || s[0].Source != "0:3" ||
		s[0].MountPoint != dir+"lower-0" || strings.Join(s[0].DriverOptions, " ") != `verity_info={"hash":"00"}` ||
		s[1].Driver != "scsi" || s[1].Source != "0:4" || len(s[1].DriverOptions) != 0 || s[2].Driver != "overlayfs" ||
		strings.Join(s[2].Options, " ") != "lowerdir="+dir+"lower-0 lowerdir="+dir+"lower-1" {
		t.Errorf("plan %+v, storages %+v", p, s)
	}
	for want, volumes := range map[string][]string{
		"together with 1 other":      {strings.Replace(top, "layer_raw", "image_raw", 1), bottom},
		"unsupported volume type":    {strings.Replace(top, "layer_raw_block", "direct_block", 1)},
		"missing source device":      {strings.Replace(top, "/t", "", 1)},
		"KataVirtualVolume: invalid": {"x"},
	} {
		if p, err := rootfs.New("cid", virtual(volumes...), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v, %v; want %q", p, err, want)
		}
	}
	bad := mount("fuse.nydus-overlayfs", "", "io.katacontainers.volume=%")
	if p, err := rootfs.New("cid", []*types.Mount{bad}, nil); err == nil {
		t.Errorf("no base64: %+v", p)
	}
}

// TestPull: Kata goes by CRI-O's annotations, not by the volume's source.
func TestPull(t *testing.T) {
	mounts := virtual(`{"volume_type":"image_guest_pull","source":"another","image_pull":{"metadata":{}}}`)
	for kind, want := range map[string]string{"container": "example.org/a:1", "sandbox": "pause"} {
		p, err := rootfs.New("cid", mounts, map[string]string{
			"io.kubernetes.cri-o.ContainerType": kind, "io.kubernetes.cri-o.ImageName": "example.org/a:1"})
		if err != nil || p.Kind != rootfs.KindPull || len(p.Storages) != 1 || p.Storages[0].Source != want ||
			p.Storages[0].MountPoint != "/run/kata-containers/cid/rootfs" {
			t.Errorf("%s: %+v, %v; want image %s", kind, p, err, want)
		}
	}
	if p, err := rootfs.New("cid", mounts, nil); err == nil {
		t.Errorf("without an image's name: %+v", p)
	}
}
