package shim

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"
)

// followCgroup moves this process to the control groups of the real shim, which Kata moves to the pod's when it
// creates the sandbox. Until then the proxy is in CRI-O's, where stopping the service would kill it, and its memory
// is not the pod's.
func followCgroup(realPID int, log *logrus.Entry) {
	if realPID <= 0 {
		return
	}
	theirs, err := readCgroups(fmt.Sprintf("/proc/%d/cgroup", realPID))
	if err != nil {
		log.WithError(err).Warn("control groups of the real shim cannot be read")
		return
	}
	mine, err := readCgroups("/proc/self/cgroup")
	if err != nil {
		log.WithError(err).Warn("own control groups cannot be read")
		return
	}
	for hierarchy, path := range theirs {
		if mine[hierarchy] == path {
			continue
		}
		if err := joinCgroup(hierarchy, path); err != nil {
			log.WithField("cgroup", hierarchy+path).WithError(err).Warn("not moved to the pod's control group")
			continue
		}
		log.WithField("cgroup", hierarchy+path).Info("moved to the pod's control group")
	}
}

// readCgroups reads a file /proc/PID/cgroup (cgroups(7)): path by controllers, "" for version 2.
func readCgroups(file string) (map[string]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	groups := map[string]string{}
	s := bufio.NewScanner(f)
	for s.Scan() {
		// "4:memory:/path", "9:name=systemd:/path", "0::/path"
		if f := strings.SplitN(s.Text(), ":", 3); len(f) == 3 {
			groups[f[1]] = f[2]
		}
	}
	return groups, s.Err()
}

// joinCgroup writes our pid into a control group. Hierarchies are mounted where systemd mounts them (file-hierarchy of
// systemd's docs/CGROUP_DELEGATION.md): version 2 at /sys/fs/cgroup, or in /sys/fs/cgroup/unified beside version 1.
func joinCgroup(hierarchy, path string) error {
	var err error
	for _, root := range cgroupRoots(hierarchy) {
		procs := filepath.Join(root, path, "cgroup.procs")
		if err = appendPID(procs); !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return err
}

func cgroupRoots(hierarchy string) []string {
	const base = "/sys/fs/cgroup"
	if hierarchy == "" {
		return []string{base + "/unified", base}
	}
	return []string{filepath.Join(base, strings.TrimPrefix(hierarchy, "name="))}
}

func appendPID(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d", os.Getpid())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
