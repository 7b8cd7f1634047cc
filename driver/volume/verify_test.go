package volume_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/verity"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

func verify(b []byte, root string) error {
	_, err := volume.Verify(context.Background(), bytes.NewReader(b), int64(len(b)), root, nil)
	return err
}

// TestVerify changes a volume in every part and in its size.
func TestVerify(t *testing.T) {
	path, d := build(t, goldenTar)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(good, d.Verity.RootHash); err != nil {
		t.Fatalf("undamaged: %v", err)
	}
	if err := verify(good, ""); err != nil {
		t.Fatalf("undamaged, without root hash: %v", err)
	}
	v := d.Verity
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		want   string
	}{
		{"EROFS magic number", flipAt(1024), "not an EROFS image"},
		{"EROFS root nid", flipAt(1024 + 14), "data block 0 at offset 0 is corrupted"},
		{"EROFS block count", flipAt(1024 + 36), "superblock at offset 1024 is corrupted"},
		{"boot area", flipAt(3), "data block 0 at offset 0 is corrupted"},
		{"file data", flipAt(4096), "data block 1 at offset 4096 is corrupted"},
		{"last inode's block", flipAt(int(v.HashOffset) - 4096), "is corrupted"},
		{"verity signature", flipAt(int(v.HashOffset)), "no verity tree"},
		{"verity algorithm", flipAt(int(v.HashOffset) + 32), `algorithm "rha256"`},
		{"verity salt", flipAt(int(v.HashOffset) + 80), "salt of 1 bytes"},
		{"verity data blocks", flipAt(int(v.HashOffset) + 72), "verity superblock"},
		{"verity superblock's padding", flipAt(int(v.HashOffset) + 100), "byte 100 is 0x1, want 0x0"},
		{"behind the verity superblock", flipAt(int(v.HashOffset) + 4095), "byte 4095 is 0x1, want 0x0"},
		{"verity UUID", flipAt(int(v.HashOffset) + 16), "superblock's UUID"},
		{"top of the tree", flipAt(int(v.TreeOffset)), "superblock's UUID"},
		{"leaves", flipAt(len(good) - 4096), "hash block of level 0"},
		{"truncated", func(b []byte) []byte { return b[:len(b)-1] }, "truncated"},
		{"truncated in the data", func(b []byte) []byte { return b[:8192] }, "truncated"},
		{"grown", func(b []byte) []byte { return append(b, 0) }, "grown"},
		{"empty", func(b []byte) []byte { return nil }, "not an EROFS image"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := verify(c.change(bytes.Clone(good)), "")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err := verify(c.change(bytes.Clone(good)), v.RootHash); err == nil {
				t.Error("accepted with the root hash given")
			}
		})
	}
	other := strings.Repeat("0", 64)
	if err := verify(good, other); !errors.Is(err, volume.ErrOtherVolume) {
		t.Errorf("with another root hash: %v", err)
	}
	var corrupt *verity.CorruptError
	if err := verify(flipAt(int(v.TreeOffset))(bytes.Clone(good)), v.RootHash); !errors.As(err, &corrupt) {
		t.Errorf("damaged at the top of the tree: %v", err)
	}
}

func flipAt(offset int) func([]byte) []byte {
	return func(b []byte) []byte { b[offset] ^= 1; return b }
}

// TestNoVerity makes a volume without a tree: the same image, nothing behind it.
func TestNoVerity(t *testing.T) {
	layer := makeTar(t, file("f", "x"))
	with, d, err := create(t, layer)
	if err != nil {
		t.Fatal(err)
	}
	without := t.TempDir() + "/v"
	plain, err := volume.Create(without, bytes.NewReader(layer), volume.BuildOptions{NoVerity: true})
	if err != nil {
		t.Fatal(err)
	}
	if plain.Verity != nil || uint64(plain.Size) != d.Verity.HashOffset {
		t.Errorf("%+v", plain)
	}
	if image := read(t, with)[:plain.Size]; image != read(t, without) {
		t.Error("the image depends on the tree")
	}
	if err := verify([]byte(read(t, without)), ""); !errors.Is(err, volume.ErrNoVerity) {
		t.Errorf("verify: %v", err)
	}
}

// TestNoDiffID leaves the digest out: the volume is the same.
func TestNoDiffID(t *testing.T) {
	layer := makeTar(t, file("f", "x"))
	with, d, err := create(t, layer)
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/v"
	without, err := volume.Create(path, bytes.NewReader(layer), volume.BuildOptions{NoDiffID: true})
	if err != nil {
		t.Fatal(err)
	}
	if without.DiffID != "" || without.Verity.RootHash != d.Verity.RootHash || read(t, path) != read(t, with) {
		t.Errorf("%+v", without)
	}
	_, err = volume.Create(path, bytes.NewReader(layer), volume.BuildOptions{NoDiffID: true, Layout: volume.LayoutTarfs})
	if err == nil {
		t.Error("layout tarfs without a diffID was accepted")
	}
}

// TestVerityFile writes the file for Kata and reads it as strictly as the shim does.
func TestVerityFile(t *testing.T) {
	v := &volume.Verity{RootHash: strings.Repeat("ab", 32), HashOffset: 8192}
	path := t.TempDir() + "/" + volume.VerityFileName
	if err := volume.WriteVerityFile(path, v); err != nil {
		t.Fatal(err)
	}
	good := read(t, path)
	if want := `{"roothash":"` + v.RootHash + `","hashoffset":8192,"salt":""}` + "\n"; good != want {
		t.Errorf("wrote %q, want %q", good, want)
	}
	if err := volume.CheckVerityFile(strings.NewReader(good), v); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]string{
		"other root hash": strings.Replace(good, "ab", "ac", 1),
		"other offset":    strings.Replace(good, "8192", "4096", 1),
		"no salt":         strings.Replace(good, `,"salt":""`, "", 1),
		"a salt":          strings.Replace(good, `"salt":""`, `"salt":"00"`, 1),
		"another key":     strings.Replace(good, `{`, `{"x":1,`, 1),
		"hidden by case":  strings.Replace(good, `}`, `,"RootHash":"`+v.RootHash+`"}`, 1),
		"spaces":          strings.Replace(good, ",", ", ", 1),
		"twice":           good + good,
		"no JSON":         "roothash",
		"too large":       good + strings.Repeat(" ", 5000),
		"empty":           "",
	} {
		if err := volume.CheckVerityFile(strings.NewReader(bad), v); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
