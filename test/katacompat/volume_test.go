package katacompat

import (
	"encoding/base64"
	"testing"

	"github.com/kata-containers/kata-containers/src/runtime/virtcontainers/types"

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

func compare(t *testing.T, ours *kata.VirtualVolume, theirs *types.KataVirtualVolume) {
	t.Helper()
	if string(ours.VolumeType) != theirs.VolumeType || ours.Source != theirs.Source || ours.FSType != theirs.FSType ||
		len(ours.Options) != len(theirs.Options) {
		t.Errorf("ours %+v, Kata's %+v", ours, theirs)
	}
	if (ours.DMVerity == nil) != (theirs.DmVerity == nil) {
		t.Fatalf("dm_verity: ours %+v, Kata's %+v", ours.DMVerity, theirs.DmVerity)
	}
	if o, k := ours.DMVerity, theirs.DmVerity; o != nil && (types.DmVerityInfo{HashType: o.HashType, Hash: o.Hash,
		BlockNum: o.BlockNum, Blocksize: o.BlockSize, Hashsize: o.HashSize, Offset: o.Offset}) != *k {
		t.Errorf("dm_verity: ours %+v, Kata's %+v", o, k)
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
