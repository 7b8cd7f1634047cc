package crio

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/crio-erofs/crio-erofs/test/env"
)

// UseDriver changes the storage driver, as an admin does between two runs of CRI-O: contrib's files come and go as a
// whole. Empty is contrib's driver.
func (s *Server) UseDriver(name string) error {
	for _, dir := range []string{"crio.conf.d", "nri", "hooks.d", "shims"} {
		if err := os.RemoveAll(s.path(dir)); err != nil {
			return err
		}
	}
	s.opts.StorageDriver = name
	return s.prepare()
}

// usePrograms chooses whose CRI-O, hook and drop-in are run: those of the tree in which a release was built, or this one's.
func (s *Server) usePrograms(tree string) (err error) {
	if tree == "" {
		if tree, err = env.Root(); err != nil {
			return err
		}
	}
	s.dropIn = filepath.Join(tree, "contrib/crio.conf.d/60-erofs.conf")
	for name, path := range map[string]*string{"crio": &s.crio, "pinns": &s.pinns, "crio-erofs-hook": &s.hook} {
		*path = filepath.Join(tree, "bin", name)
		if _, err := os.Stat(*path); err != nil {
			return fmt.Errorf("%w: run 'make build crio' there", err)
		}
	}
	return nil
}

// UseRelease replaces CRI-O and hook by those of another release, as an upgrade does between two runs of CRI-O.
func (s *Server) UseRelease(tree string) error {
	if err := s.usePrograms(tree); err != nil {
		return err
	}
	return s.UseDriver(s.opts.StorageDriver)
}

// Usage is what CRI-O tells of a file system, or of what a container wrote.
type Usage struct {
	Path          string
	Bytes, Inodes uint64
}

func usageOf(u *cri.FilesystemUsage) Usage {
	return Usage{u.GetFsId().GetMountpoint(), u.GetUsedBytes().GetValue(), u.GetInodesUsed().GetValue()}
}

// ImageFS returns what "crictl imagefsinfo" shows.
func (s *Server) ImageFS(ctx context.Context) (Usage, error) {
	resp, err := s.images.ImageFsInfo(ctx, &cri.ImageFsInfoRequest{})
	if err != nil {
		return Usage{}, fmt.Errorf("imagefsinfo: %w", err)
	}
	if n := len(resp.GetImageFilesystems()); n != 1 {
		return Usage{}, fmt.Errorf("imagefsinfo: %d file systems", n)
	}
	return usageOf(resp.GetImageFilesystems()[0]), nil
}

// Written returns what "crictl stats" shows of the container's writable layer.
func (c *Container) Written(ctx context.Context) (Usage, error) {
	resp, err := c.server.runtime.ContainerStats(ctx, &cri.ContainerStatsRequest{ContainerId: c.ID})
	if err != nil {
		return Usage{}, fmt.Errorf("stats of container %s: %w", c.ID, err)
	}
	return usageOf(resp.GetStats().GetWritableLayer()), nil
}
