package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// errReplaced ends messages about a volume that is not what the driver made.
var errReplaced = errors.New("remove the image and pull it again")

// checkVolume makes sure that a volume that Kata is about to attach is the one in the manifest: a regular file of the
// right size with the right superblock and tree top in it, and the right verity description beside it. The rest of it
// is not read: that is dm-verity's business, in the guest, block by block.
func checkVolume(v *volume.ManifestVolume) error {
	f, err := openTrusted(v.Path)
	if err != nil {
		return fmt.Errorf("volume: %w", err)
	}
	defer f.Close()
	if err := checkContent(f, v); err != nil {
		return fmt.Errorf("volume %s: %w: %w", v.Path, err, errReplaced)
	}
	sidecar := filepath.Join(filepath.Dir(v.Path), volume.VerityFileName)
	s, err := openTrusted(sidecar)
	if err != nil {
		return fmt.Errorf("verity description: %w", err)
	}
	defer s.Close()
	if err := volume.CheckVerityFile(s, v.Verity); err != nil {
		return fmt.Errorf("verity description %s: %w: %w", sidecar, err, errReplaced)
	}
	return nil
}

func checkContent(f *os.File, v *volume.ManifestVolume) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() != v.Size {
		return fmt.Errorf("size is %d, but the manifest says %d", fi.Size(), v.Size)
	}
	info, err := volume.Inspect(f, v.Size)
	if err != nil {
		return err
	}
	if info.Verity == nil {
		return fmt.Errorf("no verity superblock at offset %d", v.Verity.HashOffset)
	}
	if *info.Verity != *v.Verity {
		return fmt.Errorf("dm-verity is %+v, but the manifest says %+v", *info.Verity, *v.Verity)
	}
	return nil
}

// openTrusted opens a regular file that nobody but root, or whoever runs this, can have written.
func openTrusted(path string) (*os.File, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil {
		err = checkOwner(fi)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func checkOwner(fi os.FileInfo) error {
	if fi.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("mode %v lets others than the owner write it", fi.Mode().Perm())
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("owned by uid %d, not by uid %d that runs the shim", st.Uid, os.Geteuid())
	}
	return nil
}
