package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/crio-erofs/crio-erofs/driver/verity"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// verified remembers which volumes this process has checked.
type verified struct {
	mu    sync.Mutex
	files map[volume.FileID]*checkedFile
}

// checkedFile is a volume's file as it was when it fit its tree.
type checkedFile struct {
	mu    sync.Mutex // one check at a time
	mtime time.Time
	root  string
}

func (v *verified) file(id volume.FileID) *checkedFile {
	v.mu.Lock()
	defer v.mu.Unlock()
	f := v.files[id]
	if f == nil {
		if len(v.files) >= maxEntries { // of volumes that are gone, most of them: the others are checked once more
			maps.DeleteFunc(v.files, func(_ volume.FileID, f *checkedFile) bool { return f.idle() })
		}
		f = &checkedFile{}
		v.files[id] = f
	}
	return f
}

// idle says whether nobody is checking the file.
func (f *checkedFile) idle() bool {
	if !f.mu.TryLock() {
		return false
	}
	f.mu.Unlock()
	return true
}

// verify checks all of a volume against its root hash, unless this process has done so and the file has not been
// written to since. It does nothing unless the options say that volumes are to be checked.
func (d *Driver) verify(ctx context.Context, v *volume.ManifestVolume) error {
	if !d.options.verify {
		return nil
	}
	if v.Verity == nil {
		return fmt.Errorf("volume %s has no hash tree, and erofs.verify=on-mount lets none be used that cannot be checked: "+
			"remove the images that use it and pull them again", v.Path)
	}
	f, err := os.Open(v.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	id, err := volume.FileIDOf(fi)
	if err != nil {
		return err
	}
	known := d.verified.file(id)
	known.mu.Lock()
	defer known.mu.Unlock()
	if known.root == v.Verity.RootHash && known.mtime.Equal(fi.ModTime()) {
		return nil
	}
	if _, err := volume.Verify(ctx, f, fi.Size(), v.Verity.RootHash, nil); err != nil {
		return fmt.Errorf("volume %s is damaged: %w; remove the images that use it and pull them again", v.Path, err)
	}
	known.root, known.mtime = v.Verity.RootHash, fi.ModTime()
	return nil
}

// verifyNamed checks a volume of the store, see verify.
func (d *Driver) verifyNamed(ctx context.Context, name string) error {
	if !d.options.verify {
		return nil
	}
	v, err := d.describeVolume(name)
	if err != nil {
		return err
	}
	return d.verify(ctx, v)
}

// verifySoon checks a new volume in the background, while other layers of its image are pulled. Its first user finds that
// done, or waits for the rest.
func (d *Driver) verifySoon(name string) {
	if !d.options.verify {
		return
	}
	d.aside.begin("check "+name, func(ctx context.Context) {
		err := d.verifyNamed(ctx, name)
		if err != nil && ctx.Err() == nil && !errors.Is(err, fs.ErrNotExist) { // it may be removed by now
			log.WithField(fieldVolume, name).WithError(err).Error("A new volume is damaged")
		}
	})
}

// verifyStack checks all volumes that a stack mounts or has in its manifest. An image volume that turns out to be
// damaged is made again.
func (d *Driver) verifyStack(s *stack) error {
	if !d.options.verify {
		return nil
	}
	for _, name := range volumesOf(s.chain) {
		if err := d.verifyNamed(context.Background(), name); err != nil {
			return err
		}
	}
	if s.image() == "" {
		return nil
	}
	err := d.verify(context.Background(), s.manifest.Image)
	var corrupt *verity.CorruptError
	if !errors.As(err, &corrupt) && !errors.Is(err, volume.ErrOtherVolume) || len(s.manifest.Volumes) == 1 {
		return err
	}
	log.WithField(fieldLayer, s.manifest.ID).WithError(err).Warn("Making the image volume again")
	// The store for images does not know the mounts here. Once the file is gone nobody could tell that they are of it.
	if err := d.dropMounts(s.image()); err != nil {
		return err
	}
	maker, holder := d.imageHolder(s.chain)
	if err := maker.discardImage(holder, s.manifest.Image.FileID); err != nil {
		return err
	}
	d.addImage(s.manifest, s.chain)
	if s.image() == "" {
		return nil
	}
	return d.verify(context.Background(), s.manifest.Image)
}
