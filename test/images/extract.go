package images

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The names of the OCI image specification ("Whiteouts" in layer.md).
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// Extract makes the image's file system in the folder root, with GNU tar and one layer on top of the other: a witness
// that knows nothing of EROFS or overlayfs.
func Extract(ctx context.Context, image v1.Image, root string) error {
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	for i, layer := range layers {
		if err := extractLayer(ctx, layer, root); err != nil {
			return fmt.Errorf("extract layer %d: %w", i, err)
		}
	}
	return nil
}

func extractLayer(ctx context.Context, layer v1.Layer, root string) error {
	file, err := os.CreateTemp(filepath.Dir(root), "layer-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	content, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer content.Close()
	if _, err := io.Copy(file, content); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := makeRoom(file, root); err != nil {
		return err
	}
	return run(ctx, nil, "tar", "--extract", "--file="+file.Name(), "--directory="+root, "--numeric-owner",
		"--same-owner", "--same-permissions", "--xattrs", "--xattrs-include=*", "--exclude="+whiteoutPrefix+"*",
		"--sparse", "--delay-directory-restore")
}

// makeRoom removes what the layer hides or replaces by something of another type.
func makeRoom(layer io.Reader, root string) error {
	for r := tar.NewReader(layer); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		dir, base := filepath.Split(filepath.Clean(header.Name))
		path := filepath.Join(root, dir, base)
		switch hidden, isWhiteout := strings.CutPrefix(base, whiteoutPrefix); {
		case base == whiteoutOpaque:
			err = removeChildren(filepath.Join(root, dir))
		case isWhiteout:
			err = os.RemoveAll(filepath.Join(root, dir, hidden))
		default:
			// A folder on a folder adds to it; everything else takes the other's place. (tar's --unlink-first fails on
			// folders that are not empty.)
			if fi, e := os.Lstat(path); e == nil && !(fi.IsDir() && header.Typeflag == tar.TypeDir) {
				err = os.RemoveAll(path)
			}
		}
		if err != nil {
			return err
		}
	}
}

func removeChildren(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}
