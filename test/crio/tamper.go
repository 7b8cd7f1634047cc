package crio

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// VolumeChanges says where in a volume, of layout aligned with a hash tree, a byte is changed; text is where the file is
// that a container reads.
var VolumeChanges = map[string]func(v *volume.Info, text int64) int64{
	"data": func(_ *volume.Info, text int64) int64 { return text },
	// The hash of the file's block, in the lowest level, which is the last one of the tree.
	"tree": func(v *volume.Info, text int64) int64 {
		const hashesPerBlock = 4096 / 32
		leaves := (int64(v.Verity.DataBlocks) + hashesPerBlock - 1) / hashesPerBlock * 4096
		return v.Size - leaves + text/4096*32
	},
	// inos of erofs_super_block (Linux fs/erofs/erofs_fs.h)
	"superblock":           func(*volume.Info, int64) int64 { return 1024 + 16 },
	"superblock of verity": func(v *volume.Info, _ int64) int64 { return int64(v.Verity.HashOffset) + 88 }, // its salt
	"top of the tree":      func(v *volume.Info, _ int64) int64 { return int64(v.Verity.TreeOffset) },
}

// ChangedVolume is a volume with a changed byte.
type ChangedVolume struct {
	Path   string
	Offset int64
	Shim   bool // the byte is in what the shim checks: dm-verity's superblock and the top block of the tree
}

// ChangeVolumes changes a byte of each volume of the store that has the text, at one of VolumeChanges.
func (s *Server) ChangeVolumes(text, where string) (changed []ChangedVolume, err error) {
	files, err := filepath.Glob(filepath.Join(s.VolumesRoot(), "erofs/volumes/*", volume.FileName))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return changed, err
		}
		at := bytes.Index(content, []byte(text))
		if at < 0 {
			continue
		}
		v, err := volume.Inspect(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			return changed, fmt.Errorf("volume %s: %w", file, err)
		}
		if v.Verity == nil {
			return changed, fmt.Errorf("volume %s has no hash tree", file)
		}
		c := ChangedVolume{Path: file, Offset: VolumeChanges[where](v, int64(at))}
		c.Shim = c.Offset >= int64(v.Verity.HashOffset) && c.Offset < int64(v.Verity.TreeOffset)+4096
		if err := flip(file, c.Offset); err != nil {
			return changed, err
		}
		changed = append(changed, c)
	}
	if len(changed) == 0 {
		return nil, fmt.Errorf("no volume of the store has the text %q", text)
	}
	return changed, nil
}

// RestoreVolumes takes the changes back.
func RestoreVolumes(changed []ChangedVolume) error {
	var errs []error
	for _, c := range changed {
		errs = append(errs, flip(c.Path, c.Offset))
	}
	return errors.Join(errs...)
}

// flip changes the lowest bit of a file's byte.
func flip(file string, at int64) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return errors.Join(err, f.Close())
	}
	b[0] ^= 1
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Close())
}
