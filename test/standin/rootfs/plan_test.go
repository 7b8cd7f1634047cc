package rootfs_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types"

	"github.com/crio-erofs/crio-erofs/test/standin/rootfs"
)

func mount(fstype, source string, options ...string) *types.Mount {
	return &types.Mount{Type: fstype, Source: source, Options: options}
}

// TestIsErofsMultiLayer has the cases of kata-containers' erofs_rootfs.rs, mod tests, and the contract's on case.
func TestIsErofsMultiLayer(t *testing.T) {
	for _, test := range []struct {
		types []string
		want  bool
	}{
		{nil, false},
		{[]string{"erofs"}, false},
		{[]string{"ext4", "overlay"}, false},
		{[]string{"ext4", "erofs", "overlay"}, true},
		{[]string{"erofs", "overlay"}, true},
		{[]string{"erofs", "format/overlay"}, true},
		{[]string{"erofs", "format/mkdir/overlay"}, true},
		{[]string{"erofs", "btrfs"}, false},
		{[]string{"erofs", "erofs"}, false},
		{[]string{"overlay", "erofs"}, true},
		{[]string{"EROFS", "Overlay"}, true},
		{[]string{"erofs", "mkfs/overlay"}, false},
	} {
		var mounts []*types.Mount
		for _, typ := range test.types {
			mounts = append(mounts, mount(typ, ""))
		}
		if got := rootfs.IsErofsMultiLayer(mounts); got != test.want {
			t.Errorf("%q: %t, want %t", test.types, got, test.want)
		}
	}
}

// files makes files of the given sizes, each in a directory of its own.
func files(t *testing.T, sizes ...int64) []string {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	for i, size := range sizes {
		path := filepath.Join(dir, fmt.Sprintf("snap%d", i), "layer.erofs")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func TestRefusals(t *testing.T) {
	f := files(t, 4096, 0, 0)
	dir := t.TempDir()
	many := []*types.Mount{mount("overlay", "overlay")}
	for range 130 {
		many = append(many, mount("erofs", f[0]))
	}
	overlay := mount("overlay", "overlay")
	bad := filepath.Join(dir, "bad.json")
	if err := os.WriteFile(bad, []byte(`{"roothash":"00"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		mounts []*types.Mount
		want   string
	}{
		"nothing":   {nil, "share fs is unavailable"},
		"one block": {[]*types.Mount{mount("ext4", f[0], "loop")}, "unsupported rootfs"},
		"guest pull": {[]*types.Mount{mount("fuse.nydus-overlayfs", "", "io.katacontainers.volume=e30=")},
			"unsupported volume type"},
		"two others":     {[]*types.Mount{mount("erofs", f[0]), mount("btrfs", f[0])}, "unsupported rootfs mounts count 2"},
		"too many":       {many, "exceeded maximum block devices for multi-layer EROFS: 130 > 129"},
		"129 partitions": {many[:130], "exceeds maximum 128 partitions"},
		"missing":        {[]*types.Mount{mount("erofs", dir+"/x"), mount("erofs", f[0]), overlay}, "no such file"},
		"a directory":    {[]*types.Mount{mount("erofs", dir), mount("erofs", f[0]), overlay}, "is not a regular file"},
		"one directory":  {[]*types.Mount{mount("erofs", dir), overlay}, "is not a regular file"},
		"all empty":      {[]*types.Mount{mount("erofs", f[1]), mount("erofs", f[2]), overlay}, "no valid EROFS layers"},
		"no metadata": {[]*types.Mount{mount("erofs", f[0], "X-containerd.dmverity="+dir+"/x"),
			mount("erofs", f[1]), overlay}, "failed to stat dm-verity metadata file"},
		"bad metadata": {[]*types.Mount{mount("erofs", f[0], "X-containerd.dmverity="+bad), mount("erofs", f[1]), overlay},
			"failed to parse dm-verity metadata JSON"},
	} {
		if _, err := rootfs.New("c", test.mounts, nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, test.want)
		}
	}
}

func TestKinds(t *testing.T) {
	f := files(t, 4096, 8192, 0)
	overlay := mount("format/mkdir/overlay", "overlay", "X-containerd.mkdir.path={{ mount 0 }}/upper:0755", "lowerdir=x")
	for name, test := range map[string]struct {
		mounts []*types.Mount
		kind   rootfs.Kind
		files  []string
	}{
		"several: the order of the list": {[]*types.Mount{overlay, mount("erofs", f[1]), mount("erofs", f[0])},
			rootfs.KindGPT, []string{f[1], f[0]}},
		"one and an empty one": {[]*types.Mount{mount("erofs", f[0]), mount("erofs", f[2]), overlay}, rootfs.KindGPT, f[:1]},
		"one":                  {[]*types.Mount{mount("erofs", f[0], "ro", "loop"), overlay}, rootfs.KindSingle, f[:1]},
		"one with devices": {[]*types.Mount{mount("erofs", f[0], "ro", "device="+f[1]), overlay}, rootfs.KindMerged,
			[]string{f[0], f[1]}},
	} {
		p, err := rootfs.New("cid", test.mounts, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.Kind != test.kind || !slices.Equal(p.Files, test.files) {
			t.Errorf("%s: kind %s of %q, want %s of %q", name, p.Kind, p.Files, test.kind, test.files)
		}
		s := p.At([]string{"0:7"})[0]
		if s.Source != "0:7" || s.Driver != "scsi" || s.FSType != "erofs" ||
			s.MountPoint != "/run/kata-containers/shared/containers/passthrough/cid/rootfs" {
			t.Errorf("%s: storage %+v", name, s)
		}
		if got := s.Options[len(s.Options)-1]; got != "X-kata.mkdir.path={{ mount 0 }}/upper:0755" {
			t.Errorf("%s: last option %q", name, got)
		}
		if slices.Contains(s.Options, "loop") {
			t.Errorf("%s: option loop reaches the guest: %q", name, s.Options)
		}
	}
}

// TestSalt has the rules of kata-containers' gpt_disk.rs, generate_dmverity_options.
func TestSalt(t *testing.T) {
	zeros := strings.Repeat("00", 32)
	for name, test := range map[string]struct {
		json      string
		super     []byte // the salt of a superblock, nil for no superblock
		salt      string
		noSuper   bool
		otherSize int
	}{
		"from the file":                     {`"salt":"abcd",`, []byte{1, 2}, "abcd", false, 0},
		"empty in the file":                 {`"salt":"",`, []byte{1, 2}, "", false, 0},
		"a dash in the file":                {`"salt":"-",`, nil, "-", true, 0},
		"from the superblock":               {``, []byte{0xde, 0xad}, "dead", false, 0},
		"pitfall: empty in the superblock":  {``, []byte{}, zeros, false, 0},
		"no superblock":                     {``, nil, zeros, true, 0},
		"a salt too long in the superblock": {``, []byte{1}, zeros, false, 257},
	} {
		const offset = 8192
		path := files(t, offset+4096)[0]
		if test.super != nil {
			writeSuperblock(t, path, offset, test.super, test.otherSize)
		}
		meta := path + ".dmverity"
		text := fmt.Sprintf(`{%s"roothash":"00ff","hashoffset":%d,"unknown":1}`, test.json, offset)
		if err := os.WriteFile(meta, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		p, err := rootfs.New("c", []*types.Mount{mount("erofs", path, "X-containerd.dmverity="+meta),
			mount("erofs", files(t, 0)[0]), mount("overlay", "overlay")}, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := []string{"X-kata.overlay-lower", "X-kata.multi-layer=true", "X-kata.gpt-partitioned=true",
			"X-kata.partition-number=1", "X-kata.dmverity-enabled=true", "X-kata.dmverity.roothash=00ff",
			"X-kata.dmverity.hashoffset=8192", fmt.Sprintf("X-kata.dmverity.no-superblock=%t", test.noSuper),
			"X-kata.dmverity.salt=" + test.salt}
		if got := p.Storages[0].Options; !slices.Equal(got, want) {
			t.Errorf("%s: options %q, want %q", name, got, want)
		}
	}
}

func writeSuperblock(t *testing.T, path string, offset int64, salt []byte, size int) {
	t.Helper()
	b := make([]byte, 512)
	copy(b, "verity\x00\x00")
	binary.LittleEndian.PutUint32(b[8:], 1)
	binary.LittleEndian.PutUint16(b[80:], uint16(max(len(salt), size)))
	copy(b[88:], salt)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
}

// TestUnverified: a mount without the option is mounted unverified, as runtime-rs does without a word.
func TestUnverified(t *testing.T) {
	f := files(t, 4096, 4096)
	p, err := rootfs.New("c", []*types.Mount{mount("erofs", f[0]), mount("erofs", f[1]), mount("overlay", "overlay")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Storages {
		for _, opt := range s.Options {
			if strings.Contains(opt, "dmverity") {
				t.Errorf("option %q", opt)
			}
		}
	}
}
