package images_test

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// kinds are what the Debian image is there for: what a converter can get wrong, by what a tar header shows of it.
var kinds = map[string]func(h *tar.Header) bool{
	"whiteout":             func(h *tar.Header) bool { return path.Base(h.Name) == ".wh.doc" },
	"opaque folder":        func(h *tar.Header) bool { return path.Base(h.Name) == ".wh..wh..opq" },
	"hard link":            func(h *tar.Header) bool { return h.Typeflag == tar.TypeLink },
	"symbolic link":        func(h *tar.Header) bool { return h.Typeflag == tar.TypeSymlink && len(h.Linkname) > 1000 },
	"character device":     func(h *tar.Header) bool { return h.Typeflag == tar.TypeChar && h.Devmajor > 255 },
	"block device":         func(h *tar.Header) bool { return h.Typeflag == tar.TypeBlock },
	"fifo":                 func(h *tar.Header) bool { return h.Typeflag == tar.TypeFifo },
	"file capability":      func(h *tar.Header) bool { return h.PAXRecords["SCHILY.xattr.security.capability"] != "" },
	"ACL":                  func(h *tar.Header) bool { return h.PAXRecords["SCHILY.xattr.system.posix_acl_access"] != "" },
	"name of 255 bytes":    func(h *tar.Header) bool { return len(path.Base(h.Name)) == 255 },
	"path over 255 bytes":  func(h *tar.Header) bool { return len(h.Name) > 600 },
	"non-ASCII name":       func(h *tar.Header) bool { return strings.Contains(h.Name, "\u65e5\u672c\u8a9e") },
	"name beyond UTF-8":    func(h *tar.Header) bool { return strings.Contains(h.Name, "latin1-\xe9") },
	"empty file":           func(h *tar.Header) bool { return h.Typeflag == tar.TypeReg && h.Size == 0 },
	"setuid":               func(h *tar.Header) bool { return h.Mode&0o4000 != 0 },
	"large uid":            func(h *tar.Header) bool { return h.Uid > 1<<30 },
	"time before 1970":     func(h *tar.Header) bool { return h.ModTime.Unix() < 0 },
	"time beyond 32 bits":  func(h *tar.Header) bool { return h.ModTime.Unix() > 1<<32 },
	"sparse, PAX, > 4 GiB": func(h *tar.Header) bool { return path.Base(h.Name) == "big" && h.Size > 1<<32 },
	"sparse, GNU, > 4 GiB": func(h *tar.Header) bool { return h.Typeflag == tar.TypeGNUSparse && h.Size > 1<<32 },
}

// TestDebianHasItAll looks for every kind of file in the image: a corpus that lost one would make tests pass.
func TestDebianHasItAll(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("devices, owners and debootstrap need root")
	}
	cache, err := env.Cache()
	if err != nil {
		t.Fatal(err)
	}
	image, err := images.Debian.Build(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	found, compressions := map[string]bool{}, map[types.MediaType]bool{}
	for _, layer := range layers {
		mediaType, err := layer.MediaType()
		if err != nil {
			t.Fatal(err)
		}
		compressions[mediaType] = true
		look(t, layer, found)
	}
	for kind := range kinds {
		if !found[kind] {
			t.Errorf("the image has no %s", kind)
		}
	}
	if !compressions[types.OCILayer] || !compressions[types.OCILayerZStd] {
		t.Errorf("the image has layers of type %v, want gzip and zstd", compressions)
	}
}

// look marks the kinds of files that a layer has.
func look(t *testing.T, layer v1.Layer, found map[string]bool) {
	t.Helper()
	content, err := layer.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for kind, is := range kinds {
			found[kind] = found[kind] || is(h)
		}
	}
}
