package kata

import (
	"reflect"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

func rootfsVolume(path string) volume.ManifestVolume {
	return volume.ManifestVolume{Path: path, Description: volume.Description{Size: 16384, Verity: &volume.Verity{
		RootHash: strings.Repeat("a", 64), Algorithm: "sha256", HashType: 1, DataBlockSize: 4096, HashBlockSize: 4096,
		DataBlocks: 2, HashOffset: 8192, TreeOffset: 12288}}}
}

func TestRuntimeRSRootfs(t *testing.T) {
	bottom, top := rootfsVolume("/v/1/layer.erofs"), rootfsVolume("/v/2/layer.erofs")
	erofs := func(n string) Mount {
		return Mount{Type: "erofs", Source: "/v/" + n + "/layer.erofs",
			Options: []string{"ro", "loop", "X-containerd.dmverity=/v/" + n + "/layer.erofs.dmverity"}}
	}
	overlay := Mount{Type: "overlay", Source: "overlay"}
	empty := Mount{Type: "erofs", Source: "/empty", Options: []string{"ro", "loop"}}
	for _, c := range []struct {
		name    string
		volumes []volume.ManifestVolume
		want    []Mount
	}{
		{"topmost first", []volume.ManifestVolume{bottom, top}, []Mount{erofs("2"), erofs("1"), overlay}},
		{"one, with the empty file", []volume.ManifestVolume{bottom}, []Mount{erofs("1"), empty, overlay}},
	} {
		if got, err := RuntimeRSRootfs(c.volumes, "/empty"); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v\ngot  %+v\nwant %+v", c.name, err, got, c.want)
		}
	}
}

func TestRuntimeRSRootfsRefuses(t *testing.T) {
	many := make([]volume.ManifestVolume, MaxRootfsVolumes+1)
	for i := range many {
		many[i] = rootfsVolume("/v/layer.erofs")
	}
	if got, err := RuntimeRSRootfs(many[1:], "/empty"); err != nil || len(got) != MaxRootfsVolumes+1 {
		t.Errorf("%d volumes: %d mounts, %v", MaxRootfsVolumes, len(got), err)
	}
	bad := func(change func(*volume.ManifestVolume)) []volume.ManifestVolume {
		v := rootfsVolume("/v/layer.erofs")
		change(&v)
		return []volume.ManifestVolume{v}
	}
	for want, volumes := range map[string][]volume.ManifestVolume{
		"no volumes":        nil,
		"129 volumes; Kata": many,
		"no dm-verity tree": bad(func(v *volume.ManifestVolume) { v.Verity = nil }),
		"data blocks of 512 bytes": bad(func(v *volume.ManifestVolume) {
			v.Verity.DataBlockSize, v.Verity.DataBlocks = 512, 16
		}),
		"not right behind its 1 data": bad(func(v *volume.ManifestVolume) { v.Verity.DataBlocks = 1 }),
		"VMDK descriptor":             bad(func(v *volume.ManifestVolume) { v.Path = "/v\"/layer.erofs" }),
	} {
		if got, err := RuntimeRSRootfs(volumes, "/empty"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v, %v; want %q", got, err, want)
		}
	}
}
