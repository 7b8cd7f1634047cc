package crio

import (
	"context"
	"fmt"
	"os"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
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
