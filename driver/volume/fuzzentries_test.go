package volume_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// FuzzEntries takes the input for a list of entries, four bytes each: most of the bytes of a tar are names and numbers,
// and a header that is changed at random has a wrong checksum.
func FuzzEntries(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x08\x01\x10\x00\x01\x02\x01\x00\x02\x03\x01\x00\x03\x04\x00\x00"))
	f.Add(bytes.Repeat([]byte("\x08\x05\xff\x3f"), 40))
	f.Add([]byte("\x07\x01\x02\x00\x08\x11\x01\x00\x03\x01\x00\x00\x04\x11\x00\x00\x06\x07\x20\x00"))
	f.Fuzz(func(t *testing.T, program []byte) {
		layer := entriesTar(program)
		aligned, tarfs := buildAndRead(t, layer, volume.LayoutAligned), buildAndRead(t, layer, volume.LayoutTarfs)
		for _, line := range tree.Diff(tarfs, aligned, nil) { // where every file is where the tar has it
			t.Error(line)
		}
	})
}

// FuzzMergeEntries takes the input for the entries of up to four layers and merges them. What comes out must verify,
// be measured alike and, for root, be readable by the kernel.
func FuzzMergeEntries(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x08\x01\x10\x00\x01\x02\x01\x00\x02\x03\x01\x00\x03\x04\x00\x00"))
	f.Add(bytes.Repeat([]byte("\x08\x05\xff\x3f\x03\x05\x00\x00\x04\x02\x00\x00"), 12))
	f.Fuzz(func(t *testing.T, program []byte) {
		const perLayer = 4 * 6
		var tars [][]byte
		for len(program) > 0 && len(tars) < 4 {
			n := min(perLayer, len(program))
			layer := entriesTar(program[:n])
			program = program[n:]
			if out, err := os.CreateTemp(t.TempDir(), "v"); err == nil {
				_, err = volume.Build(out, bytes.NewReader(layer), volume.BuildOptions{})
				out.Close()
				if err == nil { // else FuzzEntries has it
					tars = append(tars, layer)
				}
			}
		}
		if len(tars) > 0 {
			path := sameMeasuredImage(t, tars...)
			if os.Geteuid() == 0 {
				if _, err := tree.Read(tree.MountVolume(t, path)); err != nil {
					t.Fatalf("kernel: %v", err)
				}
			}
		}
	})
}

// entriesTar returns the tar that a program describes: a kind, a name, and two bytes whose meaning depends on the kind.
func entriesTar(program []byte) []byte {
	const most = 64
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i+4 <= len(program) && i < 4*most; i += 4 {
		kind, name, arg := program[i], fuzzName(program[i+1]), int(program[i+2])|int(program[i+3])<<8
		hdr := &tar.Header{Name: name, Mode: int64(arg & 0o7777), ModTime: time.Unix(int64(arg%3)*1e9, int64(arg%2)),
			Uid: arg << (arg % 17), Format: tar.FormatPAX}
		describe(hdr, kind, arg)
		if w.WriteHeader(hdr) != nil {
			continue // not a name for such an entry
		}
		_, _ = w.Write(bytes.Repeat([]byte{kind}, int(hdr.Size))) // to memory
	}
	_ = w.Close()
	return b.Bytes()
}

func describe(hdr *tar.Header, kind byte, arg int) {
	base, dir := hdr.Name, ""
	if i := strings.LastIndex(hdr.Name, "/"); i >= 0 {
		dir, base = hdr.Name[:i+1], hdr.Name[i+1:]
	}
	const kinds = "dlhwocxsfF"
	switch kinds[int(kind)%len(kinds)] {
	case 'd':
		hdr.Typeflag = tar.TypeDir
	case 'l':
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, strings.Repeat("../", arg%3)+fuzzName(byte(arg>>8))
	case 'h':
		hdr.Typeflag, hdr.Linkname = tar.TypeLink, fuzzName(byte(arg))
	case 'w':
		hdr.Typeflag, hdr.Name = tar.TypeReg, dir+".wh."+base
	case 'o':
		hdr.Typeflag, hdr.Name = tar.TypeReg, hdr.Name+"/.wh..wh..opq"
	case 'c':
		hdr.Typeflag, hdr.Devmajor, hdr.Devminor = tar.TypeChar, int64(arg>>8), int64(arg&0xff)
	case 'x':
		hdr.Typeflag, hdr.PAXRecords = tar.TypeReg, map[string]string{
			fmt.Sprintf("SCHILY.xattr.user.%d", arg%7): strings.Repeat("v", arg)}
	case 's':
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, strings.Repeat("s", arg%4096)
	case 'F':
		hdr.Typeflag, hdr.Size = tar.TypeReg, 2*int64(arg) // more than may share blocks
	default:
		hdr.Typeflag, hdr.Size = tar.TypeReg, int64(arg)
	}
}

// fuzzName returns one of few names, so that entries have to do with each other: up to three components of three.
func fuzzName(b byte) string {
	name := string("a-\xff"[b%3])
	for b /= 3; b > 0 && len(name) < 6; b /= 4 {
		name += "/" + string("b!.c"[b%4])
	}
	if b%5 == 4 {
		name += strings.Repeat("n", int(b))
	}
	return name
}
