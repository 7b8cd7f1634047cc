package katacompat

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/kata-containers/kata-containers/src/runtime/virtcontainers/types"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/katatest"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// What we write means to Kata what it means to us.
func TestKataReadsOurVolume(t *testing.T) {
	for _, s := range katatest.GoodVolumes {
		ours, err := kata.DecodeVirtualVolume(b64(s))
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := ours.Encode()
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := types.ParseKataVirtualVolume(encoded)
		if err != nil {
			t.Errorf("%s: Kata: %v", s, err)
			continue
		}
		compare(t, ours, theirs)
	}
}

// What package kata makes of a manifest, and of an image to be pulled, is as good.
func TestKataReadsWhatWeMake(t *testing.T) {
	v := &volume.ManifestVolume{Path: katatest.Path, Description: volume.Description{Size: 4300800,
		Verity: &volume.Verity{RootHash: katatest.RootHash, Algorithm: "sha256", HashType: 1, DataBlockSize: 4096,
			HashBlockSize: 4096, DataBlocks: 1038, HashOffset: 4251648, TreeOffset: 4255744}}}
	for _, ours := range []*kata.VirtualVolume{kata.NewLayerVolume(v), kata.NewImageVolume(v),
		kata.NewGuestPullVolume("example.org/busybox:1", map[string]string{"a": "<b>"}),
		kata.NewGuestPullVolume("example.org/busybox:1", nil)} {
		s, err := ours.Encode()
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := types.ParseKataVirtualVolume(s)
		if err != nil {
			t.Fatalf("%s: Kata: %v", ours.VolumeType, err)
		}
		compare(t, ours, theirs)
	}
}

// And we read what Kata's own type is written as: by CRI-O, for an image that the guest pulls.
func TestWeReadWhatKataWrites(t *testing.T) {
	for _, s := range katatest.GoodVolumes {
		theirs, err := types.ParseKataVirtualVolume(b64(s))
		if err != nil {
			t.Errorf("%s: Kata: %v", s, err)
			continue
		}
		b, err := json.Marshal(theirs)
		if err != nil {
			t.Fatal(err)
		}
		if ours, err := kata.DecodeVirtualVolume(b64(string(b))); err != nil {
			t.Errorf("%s: %v", b, err)
		} else {
			compare(t, ours, theirs)
		}
	}
}

func compare(t *testing.T, ours *kata.VirtualVolume, theirs *types.KataVirtualVolume) {
	t.Helper()
	if string(ours.VolumeType) != theirs.VolumeType || ours.Source != theirs.Source || ours.FSType != theirs.FSType ||
		!slices.Equal(ours.Options, theirs.Options) {
		t.Errorf("ours %+v, Kata's %+v", ours, theirs)
	}
	compareParts(t, ours, theirs)
	if (ours.DMVerity == nil) != (theirs.DmVerity == nil) {
		t.Fatalf("dm_verity: ours %+v, Kata's %+v", ours.DMVerity, theirs.DmVerity)
	}
	if o, k := ours.DMVerity, theirs.DmVerity; o != nil && (types.DmVerityInfo{HashType: o.HashType, Hash: o.Hash,
		BlockNum: o.BlockNum, Blocksize: o.BlockSize, Hashsize: o.HashSize, Offset: o.Offset}) != *k {
		t.Errorf("dm_verity: ours %+v, Kata's %+v", o, k)
	}
}

func compareParts(t *testing.T, ours *kata.VirtualVolume, theirs *types.KataVirtualVolume) {
	t.Helper()
	if o, k := ours.ImagePull, theirs.ImagePull; (o == nil) != (k == nil) || o != nil && !maps.Equal(o.Metadata, k.Metadata) {
		t.Errorf("image_pull: ours %+v, Kata's %+v", o, k)
	}
	if o, k := ours.DirectVolume, theirs.DirectVolume; (o == nil) != (k == nil) ||
		o != nil && !maps.Equal(o.Metadata, k.Metadata) {
		t.Errorf("direct_volume: ours %+v, Kata's %+v", o, k)
	}
	if o, k := ours.NydusImage, theirs.NydusImage; (o == nil) != (k == nil) || o != nil && types.NydusImageVolume(*o) != *k {
		t.Errorf("nydus_image: ours %+v, Kata's %+v", o, k)
	}
}

// Kata refuses what we refuse, except where the table says that it is less strict.
func TestKataRefusesBadVolumes(t *testing.T) {
	for _, tt := range katatest.BadVolumes {
		if _, err := kata.DecodeVirtualVolume(b64(tt.JSON)); err == nil {
			t.Errorf("%s: we accept it", tt.Name)
		}
		_, err := types.ParseKataVirtualVolume(b64(tt.JSON))
		if accepts := err == nil; accepts != tt.KataAccepts {
			t.Errorf("%s: Kata accepts: %v (%v)", tt.Name, accepts, err)
		}
	}
}

// Whatever we accept, Kata accepts, and reads it as we do.
func FuzzKataAcceptsWhatWeAccept(f *testing.F) {
	for _, s := range katatest.GoodVolumes {
		f.Add(s)
	}
	for _, tt := range katatest.BadVolumes {
		f.Add(tt.JSON)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ours, err := kata.DecodeVirtualVolume(b64(s))
		if err != nil {
			return
		}
		theirs, err := types.ParseKataVirtualVolume(b64(s))
		if err != nil {
			t.Fatalf("Kata refuses %s: %v", s, err)
		}
		compare(t, ours, theirs)
	})
}
