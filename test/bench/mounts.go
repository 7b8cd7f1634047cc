package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// sizeResult compares images without hash trees.
type sizeResult struct {
	Own  int64 `json:"own_bytes"`
	Mkfs int64 `json:"mkfs_noinline_bytes"`
	Data int64 `json:"file_data_in_blocks_bytes"` // no image with aligned data can be smaller
}

// sizes compares an aligned volume without a tree with what mkfs.erofs makes when it, too, aligns all file data.
func (b *bench) sizes(ctx context.Context, in *input) (*sizeResult, error) {
	own, mkfs := filepath.Join(b.work, "own"), filepath.Join(b.work, "mkfs")
	defer os.Remove(own)
	defer os.Remove(mkfs)
	if _, err := run(ctx, []string{b.own, "build", "--no-verity", in.path, own},
		append(b.mkfs, "-Enoinline_data", "--tar=f", "--sort=none", mkfs, in.path)); err != nil {
		return nil, err
	}
	r := sizeResult{Data: in.dataInBlocks}
	var err error
	if r.Own, err = diskSize(own); err != nil {
		return nil, err
	}
	if r.Mkfs, err = diskSize(mkfs); err != nil {
		return nil, err
	}
	return &r, nil
}

// listingResult compares walks over mounted images that are in no cache.
type listingResult struct {
	Own       turn  `json:"own"` // the best
	Mkfs      turn  `json:"mkfs_default"`
	OwnTurns  turns `json:"own_turns"`
	MkfsTurns turns `json:"mkfs_turns"`
}

// listings walks over a volume and over what mkfs.erofs makes without further options. The images are on the cache's
// file system, a disk's: in memory nothing would be cold.
func (b *bench) listings(ctx context.Context, in *input) (_ *listingResult, err error) {
	logrus.Info("Measuring cold walks over mounted images")
	work, err := os.MkdirTemp(b.cache, "listing.")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	images := []string{filepath.Join(work, "own"), filepath.Join(work, "mkfs")}
	if _, err := run(ctx, []string{b.own, "build", in.path, images[0]},
		append(b.mkfs, "--tar=f", images[1], in.path), []string{"sync", images[1]}); err != nil {
		return nil, err
	}
	all, err := b.alternate(len(images), func(i int) (turn, error) { return walkCold(ctx, images[i]) })
	if err != nil {
		return nil, err
	}
	return &listingResult{Own: all[0].best(), Mkfs: all[1].best(), OwnTurns: all[0],
		MkfsTurns: all[1]}, nil
}

// walkCold mounts an image that nothing of is cached, and has find look at all of it.
func walkCold(ctx context.Context, image string) (t turn, err error) {
	if err := dropFile(image); err != nil {
		return t, err
	}
	dir, unmount, err := mountLoop(ctx, "erofs", image)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, unmount()) }()
	return run(ctx, []string{"find", dir, "-ls"})
}

// dropFile takes a file out of the page cache. What was mounted of it left the caches of inodes and names with the
// mount, and the loop device's cache with the device.
func dropFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("drop %s from the page cache: %w", path, err)
	}
	return nil
}

// mountLoop mounts an image file beside it. The loop device goes with the mount.
func mountLoop(ctx context.Context, fsType, image string) (dir string, unmount func() error, err error) {
	dir = image + ".mnt"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", nil, err
	}
	if _, err := sh(ctx, `mount -t "$1" -o loop "$2" "$3"`, fsType, image, dir); err != nil {
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	return dir, func() error {
		// Not the context: what it ends has to be unmounted, too. The kernel lets go a little later of files whose mount
		// was taken away lazily.
		_, err := sh(context.WithoutCancel(ctx), `for i in $(seq 50); do
			umount "$1" 2>/dev/null && exec rmdir "$1"
			sleep 0.1
		done
		umount "$1"`, dir)
		return err
	}, nil
}

// memory returns how much build needs for very many files.
func (b *bench) memory(ctx context.Context) (*row, error) {
	in, err := b.input(ctx, "many", "200,000 small files", writeMany)
	if err != nil {
		return nil, err
	}
	logrus.Info("Measuring memory with very many files")
	own := contender{"crio-erofs build", command(b.own, "build", "{in}", "{out}")}
	t, size, err := b.once(ctx, own, in)
	return &row{Name: in.Title, Wall: t.Wall, CPU: t.CPU, RSS: t.RSS, Size: size, Turns: turns{t}}, err
}
