package expected_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/expected"
	"github.com/crio-erofs/crio-erofs/test/standin/rootfs"
)

// volumeFile makes a volume in a file of its own, and returns its description and path.
func volumeFile(t *testing.T, dir, name string) (measure.Volume, volume.ManifestVolume) {
	t.Helper()
	sub := filepath.Join(dir, name)
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(sub, volume.FileName)
	emptyTar := strings.NewReader(strings.Repeat("\x00", 1024)) // the options do not depend on files
	d, err := volume.Create(path, emptyTar, volume.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := volume.WriteVerityFile(filepath.Join(sub, volume.VerityFileName), d.Verity); err != nil {
		t.Fatal(err)
	}
	return measure.Volume{Size: d.Size, Verity: *d.Verity}, volume.ManifestVolume{Description: *d, Path: path}
}

// TestStorageOptions holds the options against those that the stand-in for Kata, which follows its source, makes of the
// Rootfs that the shim sends.
func TestStorageOptions(t *testing.T) {
	dir := t.TempDir()
	var r expected.Rootfs
	var mounts []*types.Mount
	for _, name := range []string{"a", "b", "c"} {
		measured, made := volumeFile(t, dir, name)
		r.Volumes = append(r.Volumes, measured)
		// The topmost volume comes first (kata.RuntimeRS).
		m := &types.Mount{Type: "erofs", Source: made.Path, Options: []string{"ro", "loop",
			"X-containerd.dmverity=" + filepath.Join(filepath.Dir(made.Path), volume.VerityFileName)}}
		mounts = append([]*types.Mount{m}, mounts...)
	}
	plan, err := rootfs.New("c", append(mounts, &types.Mount{Type: "overlay", Source: "overlay"}), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.StorageOptions()
	if err != nil {
		t.Fatal(err)
	}
	var want [][]string
	for _, s := range plan.Storages {
		want = append(want, s.Options)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("expected are\n%q\nKata sends\n%q", got, want)
	}
	r.Volumes[1].Verity.DataBlockSize = 512
	if _, err := r.StorageOptions(); !errors.Is(err, expected.ErrBlockSize) {
		t.Errorf("blocks of 512 bytes: %v", err)
	}
}

func measurement() *measure.Measurement {
	v := func(i int) measure.Volume {
		return measure.Volume{Size: 49152, Verity: volume.Verity{RootHash: fmt.Sprintf("%064x", i), Algorithm: "sha256",
			HashType: 1, DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: 10, HashOffset: 40960, TreeOffset: 45056}}
	}
	image := v(9)
	return &measure.Measurement{ConfigDigest: "sha256:c", Layout: volume.LayoutAligned, FormatVersion: 1, ImageVolume: &image,
		Layers: []measure.Layer{{Volume: v(2), Copy: true}, {Volume: v(1)}, {Volume: v(2)}}}
}

// TestVolumes looks at the formats that have a line for each volume: each once, the layers' first.
func TestVolumes(t *testing.T) {
	m := measurement()
	files, err := expected.VerityFiles(m)
	if err != nil {
		t.Fatal(err)
	}
	want := ""
	for _, i := range []int{1, 2, 9} {
		want += fmt.Sprintf(`{"roothash":"%064x","hashoffset":40960,"salt":""}`+"\n", i)
	}
	if string(files) != want {
		t.Errorf("%s; want %s", files, want)
	}
	lines := strings.Split(strings.TrimSpace(string(expected.VeritysetupLines(m))), "\n")
	if len(lines) != 3 {
		t.Fatalf("%q", lines)
	}
	for i, line := range lines {
		d, err := kata.ParseParameters(line)
		if err != nil || d.Hash != fmt.Sprintf("%064x", []int{1, 2, 9}[i]) || d.Offset != 45056 {
			t.Errorf("%s: %+v, %v", line, d, err)
		}
	}
	volumes, err := expected.VirtualVolumes(m, "/graph")
	if err != nil {
		t.Fatal(err)
	}
	if len(volumes) != 3 || volumes[2].Key != kata.VolumeKey(0) || volumes[2].Volume.VolumeType != kata.VolumeImageRawBlock ||
		volumes[1].Volume.Source != "/graph/erofs/volumes/"+strings.Repeat("0", 24)+"/layer.erofs" {
		t.Errorf("%+v", volumes)
	}
	for _, v := range volumes {
		if got, err := kata.DecodeVirtualVolume(v.Annotation); err != nil || !reflect.DeepEqual(got, v.Volume) {
			t.Errorf("%+v, %v; want %+v", got, err, v.Volume)
		}
	}
}

func TestReferenceValues(t *testing.T) {
	b, err := expected.ReferenceValues([]*measure.Measurement{measurement()})
	if err != nil {
		t.Fatal(err)
	}
	var message struct{ Version, Type, Payload string }
	if err := json.Unmarshal(b, &message); err != nil || message.Version != "0.1.0" || message.Type != "sample" {
		t.Fatalf("%s: %v", b, err)
	}
	payload, err := base64.StdEncoding.DecodeString(message.Payload)
	if err != nil {
		t.Fatal(err)
	}
	var values map[string][]string
	if err := json.Unmarshal(payload, &values); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"crio-erofs/sha256-c/layer-verity": {fmt.Sprintf("%064x", 1), fmt.Sprintf("%064x", 2)},
		"crio-erofs/sha256-c/image-verity": {fmt.Sprintf("%064x", 9)},
	}
	if !reflect.DeepEqual(values, want) {
		t.Errorf("%v; want %v", values, want)
	}
}
