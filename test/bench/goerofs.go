package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/go-dmverity/pkg/verity"
	"github.com/erofs/go-erofs"
)

// goErofs makes a volume with go-erofs' writer and go-dmverity. Version 0.3.1 of the writer reads no tars; this gives
// it the entries of one, with the attributes that it has methods for. It knows no hard links: it gets none.
func goErofs(in *os.File, out string) (err error) {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := erofs.Create(f)
	for tr := tar.NewReader(in); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = goErofsEntry(w, hdr, tr)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", in.Name(), err)
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return goDMVerity(f)
}

func goErofsEntry(w *erofs.Writer, hdr *tar.Header, data io.Reader) error {
	mode := hdr.FileInfo().Mode()
	switch hdr.Typeflag {
	case tar.TypeDir:
		if err := w.Mkdir(hdr.Name, mode.Perm()); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := w.Symlink(hdr.Linkname, hdr.Name); err != nil {
			return err
		}
	case tar.TypeReg:
		f, err := w.Create(hdr.Name)
		if err != nil {
			return err
		}
		if _, err := f.ReadFrom(data); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		if err := w.Chmod(hdr.Name, mode); err != nil {
			return err
		}
	default:
		return nil
	}
	if err := w.Chown(hdr.Name, hdr.Uid, hdr.Gid); err != nil {
		return err
	}
	return w.Chtimes(hdr.Name, hdr.ModTime, hdr.ModTime)
}

// goDMVerity appends a hash tree.
func goDMVerity(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	const block = 4096
	size := (fi.Size() + block - 1) &^ (block - 1)
	if err := f.Truncate(size); err != nil {
		return err
	}
	p := verity.DefaultParams()
	p.DataBlockSize, p.HashBlockSize = block, block
	p.DataBlocks, p.HashAreaOffset = uint64(size/block), uint64(size)
	_, err = verity.Create(&p, f.Name(), f.Name())
	return err
}
