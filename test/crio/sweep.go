package crio

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// sweep removes the private folder and all that still hangs on it. CRI-O keeps the mounts of its store when it ends,
// by design, so those of the graph root are no surprise; a process or another mount is.
func (s *Server) sweep() error {
	surprises := s.killLeftovers()
	expected := []string{s.GraphRoot(), s.ImageRoot(), s.path("runroot"), s.path("ns")}
	mounts, err := s.mounts()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if !slices.ContainsFunc(expected, func(e string) bool { return m == e || strings.HasPrefix(m, e+"/") }) {
			surprises = append(surprises, "mount "+m)
		}
		if err := unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("umount %s: %w", m, err)
		}
	}
	if err := s.removeCgroups(); err != nil {
		return err
	}
	if err := os.RemoveAll(s.opts.Dir); err != nil {
		return err
	}
	if len(surprises) > 0 {
		return fmt.Errorf("left behind by CRI-O: %s", strings.Join(surprises, ", "))
	}
	return nil
}

// removeCgroups removes the pods' control groups: a conmon's stays when CRI-O is not there to see it end.
func (s *Server) removeCgroups() error {
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} { // version 2, version 1
		tops, err := filepath.Glob(pattern + s.cgroup())
		if err != nil {
			return err
		}
		for _, top := range tops {
			if err := removeCgroup(top); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeCgroup removes a control group and those below it. Its files go with it.
func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return unix.Rmdir(dir)
}

// mounts lists what is mounted below the private folder, the innermost first.
func (s *Server) mounts() ([]string, error) {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(s.opts.Dir))
	if err != nil {
		return nil, fmt.Errorf("list mounts below %s: %w", s.opts.Dir, err)
	}
	points := make([]string, 0, len(infos))
	for _, info := range infos {
		points = append(points, info.Mountpoint)
	}
	slices.Reverse(points) // mountinfo has them in the order in which they were mounted
	return points, nil
}

// killLeftovers ends the processes whose command line names the private folder, after some time to end by themselves,
// and says which they were.
func (s *Server) killLeftovers() []string {
	deadline := time.Now().Add(20 * time.Second) // a busy machine starts a program late that outlives CRI-O
	for {
		pids := s.processes()
		if len(pids) == 0 {
			return nil
		}
		if time.Now().Before(deadline) {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		var left []string
		for pid, command := range pids {
			left = append(left, fmt.Sprintf("process %d (%s)", pid, command))
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended just now
		}
		return left
	}
}

// processes returns the commands, by process id, that name the private folder.
func (s *Server) processes() map[int]string {
	found := map[int]string{}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is good
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		content, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || !bytes.Contains(content, []byte(s.opts.Dir+"/")) {
			continue
		}
		found[pid] = string(bytes.ReplaceAll(bytes.TrimRight(content, "\x00"), []byte{0}, []byte{' '}))
	}
	return found
}
