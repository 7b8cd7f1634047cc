package shim

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

const (
	// copyChunk keeps requests well below ttrpc's 4 MiB.
	copyChunk = 512 << 10

	// maxCopy bounds what a container's volumes may copy into the guest's memory.
	maxCopy = 64 << 20
)

// prepareMounts rewrites the mounts of a container for a guest that shares no directory with the host: files and
// directories of the host are copied, as runtime-rs does with shared_fs = "none" (kata-containers
// src/runtime-rs/crates/resource/src/volume/mod.rs, share_fs_volume.rs and shm_volume.rs).
func (c *container) prepareMounts(ctx context.Context, spec *specs.Spec) error {
	budget := int64(maxCopy)
	mounts := spec.Mounts[:0:0]
	for _, m := range spec.Mounts {
		switch {
		case m.Destination == "/dev/shm":
			m = specs.Mount{Destination: m.Destination, Type: "bind", Source: agentapi.ShmDir, Options: []string{"rbind"}}
		case m.Type == "bind" && !isHostDevice(m.Destination) && !isSystemMount(m.Source):
			copied, err := c.copyVolume(ctx, m.Source, m.Destination, &budget)
			if err != nil {
				return fmt.Errorf("mount %s: copy %s to the guest: %w", m.Destination, m.Source, err)
			}
			if copied == "" {
				continue
			}
			m.Source = copied
		}
		mounts = append(mounts, m)
	}
	spec.Mounts = mounts
	return nil
}

// isHostDevice is share_fs_volume.rs's is_host_device: mounts on devices are left to the guest.
func isHostDevice(destination string) bool {
	if destination == "/dev" {
		return true
	}
	if !strings.HasPrefix(destination, "/dev/") {
		return false
	}
	fi, err := os.Stat(destination)
	return err == nil && !fi.Mode().IsRegular()
}

// isSystemMount is share_fs_volume.rs's is_system_mount.
func isSystemMount(source string) bool {
	return source == "/proc" || source == "/sys" || strings.Contains(source, "/proc/") || strings.Contains(source, "/sys/")
}

// copyVolume copies a file or directory and returns where the guest has it: "" if it is neither, which Kata ignores
// with a warning.
func (c *container) copyVolume(ctx context.Context, source, destination string, budget *int64) (string, error) {
	src, err := filepath.EvalSymlinks(source)
	if err != nil {
		return "", err
	}
	fi, err := os.Stat(src)
	if err != nil {
		return "", err
	}
	if !fi.IsDir() && !fi.Mode().IsRegular() {
		logrus.Warnf("container %s: ignoring the mount of %s on %s, which is neither file nor directory", c.id, source,
			destination)
		return "", nil
	}
	// share_fs_volume.rs, generate_copy_file_guest_path.
	random := make([]byte, 8)
	rand.Read(random)
	target := fmt.Sprintf("%s/%s-%s-%s", agentapi.SharedDir, c.id, hex.EncodeToString(random), filepath.Base(destination))
	return target, c.copyTree(ctx, src, target, budget)
}

func (c *container) copyTree(ctx context.Context, src, target string, budget *int64) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		return c.copyEntry(ctx, path, filepath.Join(target, rel), budget)
	})
}

func (c *container) copyEntry(ctx context.Context, path, target string, budget *int64) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	r := &agentapi.CopyFileRequest{Path: target, Mode: st.Mode, UID: int(st.Uid), GID: int(st.Gid)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
	case unix.S_IFLNK:
		link, err := os.Readlink(path)
		if err != nil {
			return err
		}
		r.Data = []byte(link)
	case unix.S_IFREG:
		if *budget -= st.Size; *budget < 0 {
			return fmt.Errorf("the container's volumes are larger than %d MiB, more than the stand-in for Kata copies",
				maxCopy>>20)
		}
		return c.copyFile(ctx, path, r)
	default:
		logrus.Warnf("container %s: ignoring %s, which is no file, directory or link", c.id, path)
		return nil
	}
	_, err := c.vm.Agent.CopyFile(ctx, r)
	return err
}

func (c *container) copyFile(ctx context.Context, path string, r *agentapi.CopyFileRequest) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, copyChunk)
	for {
		n, err := io.ReadFull(f, buf)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		r.Data = buf[:n]
		if n > 0 || r.Offset == 0 { // an empty file is made too
			if _, failure := c.vm.Agent.CopyFile(ctx, r); failure != nil {
				return failure
			}
		}
		if err != nil { // the end of the file
			return nil
		}
		r.Offset += int64(n)
	}
}
