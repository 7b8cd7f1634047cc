package disks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/nodestore"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/target"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/verity"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

type mountOptions struct {
	roots    nodestore.Roots
	verify   bool
	rootHash string
	by       string
}

var mountModes = []string{string(driver.MountAuto), string(driver.MountFile), string(driver.MountLoop)}

func newMountCommand() *cobra.Command {
	var o mountOptions
	cmd := &cobra.Command{
		Use:   "mount [flags] REF DIR",
		Short: "Mount a volume or an image read-only",
		Long: `mount mounts a volume, or an image as its containers see it, read-only on a directory: straight from the file where the kernel
can (Linux 6.12 and later), else through a loop device that goes away with the mount. Of several volumes it makes an overlay.
crio-erofs umount, or umount, takes all of it away again. If it fails nothing is mounted. It needs root.

With --verify all data is read and checked first, against the root hashes of the store, or against --root-hash. What is written
to the files afterwards is not noticed: for that, mount through dm-verity (veritysetup, with what inspect shows).

` + target.Help,
		Example: `  crio-erofs mount layer.erofs /mnt
  crio-erofs mount --verify quay.io/fedora/fedora:42 /mnt
  crio-erofs umount /mnt`,
		Args: cli.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args[0], args[1]) },
	}
	target.AddFlag(cmd, &o.roots)
	cmd.Flags().BoolVar(&o.verify, "verify", false, "check all data first")
	cmd.Flags().StringVar(&o.rootHash, "root-hash", "", "the root hash that a single volume must have; implies --verify")
	cmd.Flags().StringVar(&o.by, "by", mountModes[0], "mount by: "+strings.Join(mountModes, ", "))
	_ = cmd.RegisterFlagCompletionFunc("by", cobra.FixedCompletions(mountModes, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (o *mountOptions) run(ctx context.Context, ref, dir string) error {
	if !slices.Contains(mountModes, o.by) {
		return cli.Usage(fmt.Errorf("--by %q: want one of %s", o.by, strings.Join(mountModes, ", ")))
	}
	if o.rootHash != "" {
		if _, err := verity.ParseRoot(o.rootHash); err != nil {
			return cli.Usage(err)
		}
	}
	t, err := target.Find(&o.roots, ref)
	if err != nil {
		return err
	}
	if fi, err := os.Stat(dir); err != nil {
		return err
	} else if !fi.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if o.rootHash != "" && len(t.Volumes) > 1 {
		return cli.Usage(fmt.Errorf("--root-hash is of one volume, and %s has %d", ref, len(t.Volumes)))
	}
	if o.verify || o.rootHash != "" {
		if err := o.verifyAll(ctx, t); err != nil {
			return err
		}
	}
	err = driver.MountVolumes(t.Volumes, t.Stacked, driver.MountMode(o.by), dir)
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w (mounting needs root)", err)
	}
	return err
}

// verifyAll checks the data of all volumes.
func (o *mountOptions) verifyAll(ctx context.Context, t *target.Target) error {
	p := output.NewProgress("checking", 0)
	defer p.End()
	for i, path := range t.Volumes {
		f, size, err := cli.OpenVolume(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := volume.Verify(ctx, f, size, cmp.Or(o.rootHash, t.RootHash(i)), p.Add); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func newUmountCommand() *cobra.Command {
	var lazy bool
	cmd := &cobra.Command{
		Use:     "umount [flags] DIR...",
		Aliases: []string{"unmount"},
		Short:   "Take away what mount has mounted",
		Long:    "umount unmounts volumes and images. What is none of these it leaves alone.",
		Args:    cli.MinimumArgs(1, "at least one directory"),
		RunE: func(_ *cobra.Command, args []string) error {
			var errs []error
			for _, dir := range args {
				errs = append(errs, umount(dir, lazy))
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVarP(&lazy, "lazy", "l", false, "take it out of sight now, also if it is in use")
	return cmd
}

func umount(dir string, lazy bool) error {
	path, err := filepath.EvalSymlinks(dir)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return err
	}
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != path, false })
	if err != nil {
		return err
	}
	top := topmost(mounts)
	switch {
	case top == nil:
		return fmt.Errorf("nothing is mounted on %s", dir)
	case top.FSType != "erofs" && (top.FSType != "overlay" || top.Source != "crio-erofs"):
		return fmt.Errorf("what is mounted on %s (%s, %s) is no volume and no image that crio-erofs mount has mounted: use umount",
			dir, top.FSType, top.Source)
	}
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	err = unix.Unmount(path, flags)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("unmount %s: %w: fuser -vm %s shows who uses it, --lazy takes it away all the same", dir, err, dir)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// topmost returns of the mounts on one directory the one that unmounting takes: nothing is mounted on it.
func topmost(mounts []*mountinfo.Info) *mountinfo.Info {
	for _, m := range mounts {
		if !slices.ContainsFunc(mounts, func(other *mountinfo.Info) bool { return other.Parent == m.ID }) {
			return m
		}
	}
	return nil
}
