package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// errReplaced ends messages about a volume that is not what the driver made.
var errReplaced = errors.New("remove the image and pull it again")

// checkVolume makes sure that a volume that Kata is about to attach is the one in the manifest: that very file, of the
// right size, with the right superblock and tree top in it, and the right verity description beside it. The rest of it
// is not read: that is dm-verity's business, in the guest, block by block.
func checkVolume(t *trust, v *volume.ManifestVolume) error {
	f, err := t.open(v.Path)
	if err != nil {
		return fmt.Errorf("volume: %w", err)
	}
	defer f.Close()
	if err := checkFile(f, v.Size, v.FileID); err != nil {
		return fmt.Errorf("volume %s: %w: %w", v.Path, err, errReplaced)
	}
	if err := checkContent(f, v); err != nil {
		return fmt.Errorf("volume %s: %w: %w", v.Path, err, errReplaced)
	}
	if v.Verity == nil {
		return nil
	}
	sidecar := filepath.Join(filepath.Dir(v.Path), volume.VerityFileName)
	s, err := t.open(sidecar)
	if err != nil {
		return fmt.Errorf("verity description: %w", err)
	}
	defer s.Close()
	if err := volume.CheckVerityFile(s, v.Verity); err != nil {
		return fmt.Errorf("verity description %s: %w: %w", sidecar, err, errReplaced)
	}
	return nil
}

// checkFile compares a file with the identity that the driver noted when it wrote the manifest.
func checkFile(f *os.File, size int64, want volume.FileID) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() != size {
		return fmt.Errorf("size is %d, but the manifest says %d", fi.Size(), size)
	}
	got, err := volume.FileIDOf(fi)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("another file was put in its place: device and inode are %d and %d, but the manifest says %d "+
			"and %d", got.Device, got.Inode, want.Device, want.Inode)
	}
	return nil
}

func checkContent(f *os.File, v *volume.ManifestVolume) error {
	info, err := volume.Inspect(f, v.Size)
	if err != nil {
		return err
	}
	switch {
	case v.Verity == nil:
		return nil
	case info.Verity == nil:
		return fmt.Errorf("no verity superblock at offset %d", v.Verity.HashOffset)
	case *info.Verity != *v.Verity:
		return fmt.Errorf("dm-verity is %+v, but the manifest says %+v", *info.Verity, *v.Verity)
	}
	return nil
}

// checkRWLayer makes sure that the disk that a container writes on is the one in the manifest. What is in it nobody
// vouches for.
func checkRWLayer(t *trust, l *volume.RWLayer) error {
	f, err := t.open(l.Path)
	if err != nil {
		return fmt.Errorf("writable layer: %w", err)
	}
	defer f.Close()
	if err := checkFile(f, l.Size, l.FileID); err != nil {
		return fmt.Errorf("writable layer %s: %w: remove the container and create it anew", l.Path, err)
	}
	return nil
}
