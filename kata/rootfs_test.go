package kata

import (
	"errors"
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

func bareVolume(path string) volume.ManifestVolume {
	v := rootfsVolume(path)
	v.Verity = nil
	return v
}

// Two layers, the lowest first, and an image.
var (
	twoLayers = []volume.ManifestVolume{rootfsVolume("/v/1/layer.erofs"), rootfsVolume("/v/2/layer.erofs")}
	oneLayer  = twoLayers[:1]
	twoBare   = []volume.ManifestVolume{bareVolume("/v/1/layer.erofs"), bareVolume("/v/2/layer.erofs")}
	rwLayer   = &volume.RWLayer{Path: "/rw/rwlayer.img", FSType: "ext4", Size: 1 << 30}
)

// erofsOf is the EROFS mount of a volume, with verity if it is to be verified.
func erofsOf(n string, verity bool) Mount {
	m := Mount{Type: "erofs", Source: "/v/" + n + "/layer.erofs", Options: []string{"ro", "loop"}}
	if verity {
		m.Options = append(m.Options, "X-containerd.dmverity=/v/"+n+"/layer.erofs.dmverity")
	}
	return m
}

// virtualOf is the mount of virtual volumes.
func virtualOf(t *testing.T, source string, volumes ...*VirtualVolume) []Mount {
	m := Mount{Type: "fuse.nydus-overlayfs", Source: source}
	for _, v := range volumes {
		s, err := v.Encode()
		if err != nil {
			t.Fatal(err)
		}
		m.Options = append(m.Options, "io.katacontainers.volume="+s)
	}
	return []Mount{m}
}

// TestRootfs has what each dialect makes of each mode.
func TestRootfs(t *testing.T) {
	overlay := Mount{Type: "overlay", Source: "overlay"}
	empty := Mount{Type: "erofs", Source: "/empty", Options: []string{"ro", "loop"}}
	upper := Mount{Type: "ext4", Source: "/rw/rwlayer.img", Options: []string{"rw", "loop"}}
	layer := func(i int) *VirtualVolume { return NewLayerVolume(&twoLayers[i]) }
	bare := func(i int) *VirtualVolume { return NewLayerVolume(&twoBare[i]) }
	const rs, gort, raw, block = DialectRuntimeRS, DialectGo, DialectRawVolume, DialectBlockDevice
	for _, c := range []struct {
		name    string
		dialect Dialect
		mode    Mode
		volumes []volume.ManifestVolume
		rw      *volume.RWLayer
		want    []Mount
	}{
		{"rs, topmost first", rs, ModeLayerVerity, twoLayers, nil, []Mount{erofsOf("2", true), erofsOf("1", true), overlay}},
		{"rs, one layer, and the empty file", rs, ModeLayerVerity, oneLayer, nil, []Mount{erofsOf("1", true), empty, overlay}},
		{"rs, image, and the empty file", rs, ModeImageVerity, oneLayer, nil, []Mount{erofsOf("1", true), empty, overlay}},
		{"rs, layers, not verified", rs, ModeLayer, twoBare, nil, []Mount{erofsOf("2", false), erofsOf("1", false), overlay}},
		{"rs, layers with trees, nothing promised", rs, ModeLayer, twoLayers, nil,
			[]Mount{erofsOf("2", false), erofsOf("1", false), overlay}},
		{"rs, image as a raw disk", rs, ModeImage, oneLayer, nil, []Mount{erofsOf("1", false), overlay}},
		{"rs, image and a disk to write on", rs, ModeImage, oneLayer, rwLayer, []Mount{upper, erofsOf("1", false), overlay}},
		{"rs, layers and a disk to write on", rs, ModeLayer, twoBare, rwLayer,
			[]Mount{upper, erofsOf("2", false), erofsOf("1", false), overlay}},
		{"go, layers", gort, ModeLayer, twoLayers, nil,
			[]Mount{{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/mnt/v/2:/mnt/v/1"}}}},
		{"go, image", gort, ModeImage, oneLayer, nil,
			[]Mount{{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/mnt/v/1"}}}},
		{"raw, layers verified", raw, ModeLayerVerity, twoLayers, nil, virtualOf(t, "overlay", layer(1), layer(0))},
		{"raw, layers", raw, ModeLayer, twoLayers, nil, virtualOf(t, "overlay", bare(1), bare(0))},
		{"raw, image verified", raw, ModeImageVerity, oneLayer, nil, virtualOf(t, "overlay", NewImageVolume(&oneLayer[0]))},
		{"raw, image", raw, ModeImage, oneLayer, nil, virtualOf(t, "overlay", NewImageVolume(&twoBare[0]))},
		{"rs, guest pull", rs, ModeGuestPull, nil, nil, virtualOf(t, "", NewGuestPullVolume("busybox", nil))},
		{"go, guest pull", gort, ModeGuestPull, nil, nil, virtualOf(t, "", NewGuestPullVolume("busybox", nil))},
		{"raw, guest pull", raw, ModeGuestPull, nil, nil, virtualOf(t, "", NewGuestPullVolume("busybox", nil))},
		{"rs, shared directory", rs, ModeSharedFS, nil, nil, nil},
		{"go, shared directory", gort, ModeSharedFS, nil, nil, nil},
		{"block device", block, ModeSharedFS, nil, nil, nil},
	} {
		r := request(c.mode, c.volumes)
		r.RWLayer = c.rw
		if got, err := c.dialect.Rootfs(r); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v\ngot  %+v\nwant %+v", c.name, err, got, c.want)
		}
	}
}

func request(mode Mode, volumes []volume.ManifestVolume) *RootfsRequest {
	return &RootfsRequest{Mode: mode, Volumes: volumes, EmptyFile: "/empty", Image: "busybox",
		HostMount: func(path string) (string, error) {
			if path == "/v/absent/layer.erofs" {
				return "", errors.New("not mounted")
			}
			return "/mnt" + strings.TrimSuffix(path, "/layer.erofs"), nil
		}}
}

func TestRootfsRefuses(t *testing.T) {
	many := make([]volume.ManifestVolume, MaxRootfsVolumes+1)
	for i := range many {
		many[i] = rootfsVolume("/v/layer.erofs")
	}
	if got, err := DialectRuntimeRS.Rootfs(request(ModeLayerVerity, many[1:])); err != nil ||
		len(got) != MaxRootfsVolumes+1 {
		t.Errorf("%d volumes: %d mounts, %v", MaxRootfsVolumes, len(got), err)
	}
	bad := func(change func(*volume.ManifestVolume)) []volume.ManifestVolume {
		v := rootfsVolume("/v/layer.erofs")
		change(&v)
		return []volume.ManifestVolume{v}
	}
	named := func(path string) []volume.ManifestVolume { return []volume.ManifestVolume{rootfsVolume(path)} }
	mixed := []volume.ManifestVolume{twoLayers[0], twoBare[1]}
	half := bad(func(v *volume.ManifestVolume) { v.Verity.DataBlockSize, v.Verity.DataBlocks = 512, 16 })
	const rs, gort, raw, block = DialectRuntimeRS, DialectGo, DialectRawVolume, DialectBlockDevice
	for _, c := range []struct {
		dialect Dialect
		mode    Mode
		volumes []volume.ManifestVolume
		rw      *volume.RWLayer
		want    string
	}{
		{rs, ModeLayerVerity, nil, nil, "mode layer-verity without volumes"},
		{rs, ModeLayerVerity, many, nil, "129 volumes; Kata"},
		{rs, ModeImageVerity, twoLayers, nil, "mode image-verity with 2 volumes"},
		{rs, ModeImage, twoLayers, nil, "mode image with 2 volumes"},
		{rs, ModeLayerVerity, mixed, nil, "volume /v/2/layer.erofs has no dm-verity tree"},
		{raw, ModeLayerVerity, mixed, nil, "volume /v/2/layer.erofs has no dm-verity tree"},
		{rs, ModeImageVerity, twoBare[:1], nil, "no dm-verity tree"},
		{rs, ModeLayerVerity, twoLayers, rwLayer, "could hide any file of the image"},
		{rs, ModeImageVerity, oneLayer, rwLayer, "could hide any file of the image"},
		{raw, ModeImageVerity, oneLayer, rwLayer, "could hide any file of the image"},
		{raw, ModeImage, oneLayer, rwLayer, "virtual volumes are read-only"},
		{rs, ModeLayerVerity, half, nil, "data blocks of 512 bytes"},
		{rs, ModeLayerVerity, bad(func(v *volume.ManifestVolume) { v.Verity.DataBlocks = 1 }), nil, "not right behind its 1"},
		{rs, ModeLayer, named("/v\"/layer.erofs"), nil, "VMDK descriptor"},
		{gort, ModeLayerVerity, twoLayers, nil, "Go runtime cannot verify volumes"},
		{gort, ModeImageVerity, oneLayer, nil, "Go runtime cannot verify volumes"},
		{gort, ModeImage, oneLayer, rwLayer, "is not mounted on the host"},
		{gort, ModeLayer, named("/v/absent/layer.erofs"), nil, "not mounted"},
		{gort, ModeLayer, named("/v:1/layer.erofs"), nil, "has a colon"},
		{gort, ModeLayer, named("/v/1/image.erofs"), nil, "is not called layer.erofs"},
		{block, ModeLayer, oneLayer, nil, "dialect block-device has no volumes"},
		{block, ModeImageVerity, oneLayer, nil, "dialect block-device has no volumes"},
		{"other", ModeLayer, oneLayer, nil, "dialect other has no volumes"},
	} {
		r := request(c.mode, c.volumes)
		r.RWLayer = c.rw
		if got, err := c.dialect.Rootfs(r); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s: %+v, %v; want %q", c.dialect, c.mode, got, err, c.want)
		}
	}
	r := request(ModeGuestPull, nil)
	r.Image = ""
	if _, err := DialectGo.Rootfs(r); err == nil || !strings.Contains(err.Error(), "has to be an image reference") {
		t.Errorf("guest pull without an image: %v", err)
	}
	// 512-byte blocks are a matter of the guest's kernel where nothing is verified, and of the runtime elsewhere.
	for d, mode := range map[Dialect]Mode{rs: ModeLayer, raw: ModeLayerVerity} {
		if _, err := d.Rootfs(request(mode, half)); err != nil {
			t.Errorf("%s, %s, 512-byte blocks: %v", d, mode, err)
		}
	}
}
