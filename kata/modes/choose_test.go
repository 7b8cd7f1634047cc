package modes_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

const rootHash = "6f398283a00a69ee4f1dd7f41ba5a36dfcafaf883fbd93566d5ffebb1796684d"

func testVolume(name string) volume.ManifestVolume {
	return volume.ManifestVolume{
		Description: volume.Description{
			Layout: volume.LayoutAligned, FormatVersion: 1, Size: 4300800,
			Verity: &volume.Verity{
				RootHash: rootHash, Algorithm: "sha256", HashType: 1, DataBlockSize: 4096, HashBlockSize: 4096,
				DataBlocks: 1038, HashOffset: 4251648, TreeOffset: 4255744,
			},
		},
		Path: "/store/volumes/" + name + "/layer.erofs", LayerID: name,
	}
}

// offer returns an image of n layers with everything that a mode could want, changed by the functions given.
func offer(n int, change ...func(*modes.Offer)) modes.Offer {
	image := testVolume("image")
	m := &volume.Manifest{Version: 1, ID: "c", MountPoint: "/store/c/merged", Image: &image}
	for range n {
		m.Volumes = append(m.Volumes, testVolume("layer"))
	}
	o := modes.NewOffer(m, map[string]string{"io.kubernetes.cri-o.ImageName": "example.org/a:1",
		"io.kubernetes.cri-o.ImageRef": rootHash})
	for _, c := range change {
		c(&o)
	}
	return o
}

func noImage(o *modes.Offer) {
	o.Manifest.Image, o.Manifest.NoImage = nil, "ext4 cannot share blocks"
}
func noVerity(o *modes.Offer) { o.Manifest.Image.Verity, o.Manifest.Volumes[0].Verity = nil, nil }
func noName(o *modes.Offer)   { o.Reference = "" }
func refused(o *modes.Offer)  { o.Manifest.Refusal = "layer 3 is a directory" }
func foreign(o *modes.Offer)  { o.Manifest = nil }
func tarfs(o *modes.Offer) {
	o.Manifest.Image.Verity.DataBlockSize, o.Manifest.Volumes[0].Verity.DataBlockSize = 512, 512
}

func TestChoose(t *testing.T) {
	const raw = "modes = [\"layer\"]\ndialect = \"raw-volume\""
	for name, c := range map[string]struct {
		config  string // lines of the handler's table
		request string
		offer   modes.Offer
		mode    kata.Mode
		err     []string
	}{
		"default":           {offer: offer(2), mode: kata.ModeImageVerity},
		"default, no image": {offer: offer(2, noImage), mode: kata.ModeLayerVerity},
		"no verity": {offer: offer(2, noVerity), err: []string{
			"handler kata-erofs: image-verity is not possible: volume /store/volumes/image/layer.erofs has no dm-verity " +
				"tree (remove the image and pull it again with erofs.verity=on); layer-verity is not possible: volume"}},
		"one reason for all": {offer: offer(2, foreign), err: []string{
			"handler kata-erofs: image-verity, layer-verity are not possible: the rootfs is not on the erofs storage driver"}},
		"explicit fall-back to less": {config: `modes = ["layer-verity", "layer"]`, offer: offer(2, noVerity),
			mode: kata.ModeLayer},
		"refusal": {offer: offer(1, refused), err: []string{"as volumes: layer 3 is a directory"}},
		"refusal, guest pulls": {config: `modes = ["image-verity", "guest-pull"]`, offer: offer(1, refused),
			mode: kata.ModeGuestPull},
		"foreign": {offer: offer(1, foreign), err: []string{`set storage_driver = "erofs"`}},
		"foreign, guest pulls": {config: `modes = ["image-verity", "guest-pull"]`, offer: offer(1, foreign),
			mode: kata.ModeGuestPull},
		"no image, with its reason": {config: `modes = ["image"]`, offer: offer(2, noImage),
			err: []string{"no volume of the whole image: ext4 cannot share blocks"}},
		"no layers":  {config: `modes = ["layer"]`, offer: offer(0), err: []string{"the image has no layers"}},
		"shared":     {config: `modes = ["shared-fs"]`, offer: offer(1, foreign, noName), mode: kata.ModeSharedFS},
		"nameless":   {config: `modes = ["guest-pull"]`, offer: offer(1, noName), err: []string{"has no name"}},
		"128 layers": {config: `modes = ["layer-verity"]`, offer: offer(128), mode: kata.ModeLayerVerity},
		"129 layers": {config: `modes = ["layer-verity"]`, offer: offer(129),
			err: []string{"129 volumes, and Kata takes at most 128"}},
		"129 layers, image":     {offer: offer(129), mode: kata.ModeImageVerity},
		"129 layers elsewhere":  {config: raw, offer: offer(129), mode: kata.ModeLayer},
		"tarfs":                 {offer: offer(1, tarfs), err: []string{"data blocks of 512 bytes, and Kata's agent"}},
		"tarfs, unverified":     {config: `modes = ["layer"]`, offer: offer(1, tarfs), mode: kata.ModeLayer},
		"tarfs, raw":            {config: `dialect = "raw-volume"`, offer: offer(1, tarfs), mode: kata.ModeImageVerity},
		"request":               {request: "layer-verity", offer: offer(2), mode: kata.ModeLayerVerity},
		"request, more is fine": {request: "layer", offer: offer(2), mode: kata.ModeLayerVerity},
		"request, exact first": {config: `allow = ["layer-verity", "layer"]`, request: "layer", offer: offer(2),
			mode: kata.ModeLayer},
		"request, no fall-back": {request: "image-verity", offer: offer(2, noImage), err: []string{
			"the pod requests mode image-verity: image-verity is not possible: the store has no volume of the whole"}},
		"request, not allowed": {request: "shared-fs", offer: offer(2), err: []string{
			"the pod requests mode shared-fs, which handler kata-erofs does not allow; a pod may request image-verity, " +
				"layer-verity"}},
		"request, nothing allowed": {config: `allow = []`, request: "image-verity", offer: offer(2), err: []string{
			"a pod may request none"}},
		"request, unknown": {request: "best", offer: offer(2), err: []string{`mode "best" is unknown; valid are layer,`}},
		"request beyond modes": {config: `allow = ["guest-pull"]`, request: "guest-pull", offer: offer(2),
			mode: kata.ModeGuestPull},
	} {
		t.Run(name, func(t *testing.T) {
			h := handler(t, c.config)
			mode, err := h.Choose(c.request, c.offer)
			if mode != c.mode || (err != nil) != (len(c.err) > 0) {
				t.Fatalf("got %q, %v; want %q, %q", mode, err, c.mode, c.err)
			}
			for _, want := range c.err {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v; want %q in it", err, want)
				}
			}
		})
	}
}

func handler(t *testing.T, config string) modes.Handler {
	t.Helper()
	c, err := modes.Parse("f", []byte("[handlers.kata-erofs]\n"+config))
	if err != nil {
		t.Fatal(err)
	}
	h, _ := c.Handler("kata-erofs")
	return h
}

// checkChoice makes sure of what holds for any handler: the choice is among what is configured, fits the request, and
// can be described.
func checkChoice(t *testing.T, h *modes.Handler) {
	t.Helper()
	offers := []modes.Offer{offer(2), offer(1, foreign), offer(129, noImage), offer(1, refused), offer(1, noVerity)}
	for _, o := range offers {
		for _, request := range []kata.Mode{"", kata.ModeLayer, kata.ModeImageVerity, kata.ModeSharedFS} {
			m, err := h.Choose(string(request), o)
			if err != nil {
				continue
			}
			if request == "" && !slices.Contains(h.Modes, m) || request != "" && (!m.Satisfies(request) ||
				!slices.Contains(h.Allow, m)) {
				t.Errorf("%+v: request %q: got %s", h, request, m)
			}
			set, err := modes.Annotations(m, o)
			if err != nil || set[kata.AnnotationMode] != string(m) {
				t.Errorf("%+v: mode %s: %v, %v", h, m, set, err)
			}
		}
	}
}
