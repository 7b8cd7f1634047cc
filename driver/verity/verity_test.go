package verity_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	dmverity "github.com/containerd/go-dmverity/pkg/verity"

	"github.com/crio-erofs/crio-erofs/driver/verity"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// boundaries are numbers of data blocks around which the tree gets another block or level.
var boundaries = []int{1, 2, 3, 127, 128, 129, 255, 256, 257, 128*128 - 1, 128 * 128, 128*128 + 1}

// protect writes random data of this many blocks and its tree to a file.
func protect(t *testing.T, blocks, blockSize int) (*os.File, verity.Params, [32]byte) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "volume"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	rng := rand.NewChaCha8([32]byte{byte(blocks), byte(blocks >> 8)})
	leaves := &verity.Leaves{SpoolDir: t.TempDir()}
	defer leaves.Close()
	block := make([]byte, blockSize)
	for range blocks {
		rng.Read(block)
		if _, err := f.Write(block); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(block)
		if err := leaves.Append(sum[:]); err != nil {
			t.Fatal(err)
		}
	}
	offset := uint64(blocks*blockSize+verity.HashBlockSize-1) &^ (verity.HashBlockSize - 1)
	p := verity.Params{DataBlockSize: uint32(blockSize), DataBlocks: uint64(blocks), HashOffset: offset}
	root, err := verity.WriteTree(f, int64(p.TreeOffset()), leaves)
	if err != nil {
		t.Fatal(err)
	}
	if err := verity.WriteSuperblock(f, p, root); err != nil {
		t.Fatal(err)
	}
	return f, p, root
}

func forEachSize(t *testing.T, test func(t *testing.T, blocks, blockSize int)) {
	for _, blockSize := range []int{4096, 512} {
		sizes := boundaries
		if blockSize == 512 {
			sizes = append(slices.Clone(boundaries), 135000) // so many digests that a part goes to a file
		}
		for _, blocks := range sizes {
			t.Run(fmt.Sprintf("%dx%d", blocks, blockSize), func(t *testing.T) {
				t.Parallel()
				test(t, blocks, blockSize)
			})
		}
	}
}

// TestVeritysetup holds the tree against the one that cryptsetup makes of the same data, byte for byte.
func TestVeritysetup(t *testing.T) {
	tree.RequireTool(t, "veritysetup")
	forEachSize(t, func(t *testing.T, blocks, blockSize int) {
		f, p, root := protect(t, blocks, blockSize)
		other := filepath.Join(t.TempDir(), "tree")
		out, err := exec.Command("veritysetup", "format", "--no-superblock", "--salt=-", "--hash=sha256", "--format=1",
			"--data-block-size="+strconv.Itoa(blockSize), "--hash-block-size=4096",
			"--data-blocks="+strconv.Itoa(blocks), f.Name(), other).CombinedOutput()
		if err != nil {
			t.Fatalf("veritysetup format: %v: %s", err, out)
		}
		if !strings.Contains(string(out), fmt.Sprintf("%x", root)) {
			t.Errorf("root hash %x; veritysetup says:\n%s", root, out)
		}
		compareTree(t, f, p, other)
	})
}

// TestVeritysetupOpens has cryptsetup read our superblock and verify.
func TestVeritysetupOpens(t *testing.T) {
	tree.RequireTool(t, "veritysetup")
	forEachSize(t, func(t *testing.T, blocks, blockSize int) {
		f, p, root := protect(t, blocks, blockSize)
		out, err := exec.Command("veritysetup", "verify", f.Name(), f.Name(), fmt.Sprintf("%x", root),
			fmt.Sprintf("--hash-offset=%d", p.HashOffset)).CombinedOutput()
		if err != nil {
			t.Errorf("veritysetup verify: %v: %s", err, out)
		}
	})
}

// TestGoDMVerity holds root hash and tree against go-dmverity's.
func TestGoDMVerity(t *testing.T) {
	forEachSize(t, func(t *testing.T, blocks, blockSize int) {
		f, p, root := protect(t, blocks, blockSize)
		other := filepath.Join(t.TempDir(), "tree")
		if err := os.WriteFile(other, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		params := dmverity.DefaultParams()
		params.DataBlockSize, params.HashBlockSize = uint32(blockSize), verity.HashBlockSize
		params.DataBlocks, params.NoSuperblock = uint64(blocks), true
		theirRoot, err := dmverity.Create(&params, f.Name(), other)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(theirRoot, root[:]) {
			t.Errorf("root hash %x; go-dmverity has %x", root, theirRoot)
		}
		compareTree(t, f, p, other)
	})
}

// compareTree compares the tree in a volume with one that another program wrote to a file of its own.
func compareTree(t *testing.T, f *os.File, p verity.Params, other string) {
	t.Helper()
	ours, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile(other)
	if err != nil && !(errors.Is(err, fs.ErrNotExist) && p.DataBlocks == 1) { // a single block has no tree
		t.Fatal(err)
	}
	if got := ours[min(p.TreeOffset(), uint64(len(ours))):]; !bytes.Equal(got, theirs) {
		t.Errorf("tree of %d bytes differs from the other one of %d", len(got), len(theirs))
	}
}

func TestReadSuperblock(t *testing.T) {
	f, p, root := protect(t, 300, 4096)
	got, uuid, err := verity.ReadSuperblock(f, p.HashOffset)
	if err != nil {
		t.Fatal(err)
	}
	if got != p || uuid != verity.UUID(root) {
		t.Errorf("superblock %+v, UUID %x; want %+v, %x", got, uuid, p, verity.UUID(root))
	}
	if _, _, err := verity.ReadSuperblock(f, 0); !errors.Is(err, verity.ErrNoSuperblock) {
		t.Errorf("superblock where there is none: %v", err)
	}
	if got, err := verity.ComputeRoot(f, p); err != nil || got != root {
		t.Errorf("ComputeRoot: %x, %v; want %x", got, err, root)
	}
}

// TestCheck flips a byte in every part of a volume and wants exactly that block named.
func TestCheck(t *testing.T) {
	const blocks = 128*128 + 1 // three levels
	f, p, root := protect(t, blocks, 512)
	tree := int64(p.TreeOffset())
	if err := verity.Check(context.Background(), f, p, root, nil); err != nil {
		t.Fatalf("undamaged: %v", err)
	}
	for _, c := range []struct {
		name   string
		offset int64 // of the flipped byte
		part   string
		block  uint64
		at     int64 // of the block
	}{
		{"first data block", 0, "data block", 0, 0},
		{"a data block", 5*512 + 511, "data block", 5, 5 * 512},
		{"last data block", blocks*512 - 1, "data block", blocks - 1, (blocks - 1) * 512},
		{"top of the tree", tree + 1, "hash block of level 2", 0, tree},
		{"second level", tree + 4096 + 4096, "hash block of level 1", 1, tree + 2*4096},
		{"leaves", tree + 3*4096 + 2*4096 + 7, "hash block of level 0", 2, tree + 5*4096},
		{"padding of the last leaves", int64(p.End()) - 1, "hash block of level 0", 128, int64(p.End()) - 4096},
	} {
		t.Run(c.name, func(t *testing.T) {
			flip(t, f, c.offset)
			defer flip(t, f, c.offset)
			err := verity.Check(context.Background(), f, p, root, nil)
			var corrupt *verity.CorruptError
			if !errors.As(err, &corrupt) {
				t.Fatalf("got %v, want a CorruptError", err)
			}
			if corrupt.Part != c.part || corrupt.Block != c.block || corrupt.Offset != c.at {
				t.Errorf("%v; want %s %d at %d", err, c.part, c.block, c.at)
			}
		})
	}
	var wrong [32]byte
	if err := verity.Check(context.Background(), f, p, wrong, nil); err == nil {
		t.Error("accepted with another root hash")
	}
}

func flip(t *testing.T, f *os.File, offset int64) {
	t.Helper()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
}
