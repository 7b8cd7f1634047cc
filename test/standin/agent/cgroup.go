package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

const cgroupRoot = "/sys/fs/cgroup"

// enableControllers lets containers' cgroups count and limit.
func enableControllers() error {
	return os.WriteFile(filepath.Join(cgroupRoot, "cgroup.subtree_control"), []byte("+cpu +memory +pids"), 0o644)
}

// cgroup is the directory of a container's cgroup. All its processes are born into it.
type cgroup string

func newCgroup(cid string, res *specs.LinuxResources) (cgroup, error) {
	c := cgroup(filepath.Join(cgroupRoot, cid))
	if err := os.Mkdir(string(c), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return c, c.limit(res)
}

// limit sets the memory and process limits. Kata passes on CPU and memory limits; the guest's CPUs are few and
// emulated, so that a CPU limit would only make tests slow.
func (c cgroup) limit(res *specs.LinuxResources) error {
	if res == nil {
		return nil
	}
	if res.Memory != nil && res.Memory.Limit != nil && *res.Memory.Limit > 0 {
		if err := c.write("memory.max", strconv.FormatInt(*res.Memory.Limit, 10)); err != nil {
			return err
		}
	}
	if res.Pids != nil && res.Pids.Limit > 0 {
		return c.write("pids.max", strconv.FormatInt(res.Pids.Limit, 10))
	}
	return nil
}

func (c cgroup) write(file, value string) error {
	return os.WriteFile(filepath.Join(string(c), file), []byte(value), 0o644)
}

func (c cgroup) remove() error {
	var err error
	// A cgroup is busy until its last process has been reaped by its parent.
	waiting := poll(func() bool {
		err = os.Remove(string(c))
		return err == nil || errors.Is(err, os.ErrNotExist)
	})
	if waiting != nil {
		return fmt.Errorf("%w: %w", err, waiting)
	}
	return nil
}

func (c cgroup) pids() ([]int, error) {
	b, err := os.ReadFile(filepath.Join(string(c), "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, line := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(line)
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

func (c cgroup) stats() (*agentapi.StatsResponse, error) {
	cpu, err := os.ReadFile(filepath.Join(string(c), "cpu.stat"))
	if err != nil {
		return nil, err
	}
	s := &agentapi.StatsResponse{
		MemoryUsage: c.number("memory.current"), MemoryLimit: c.number("memory.max"),
		PidsCurrent: c.number("pids.current"), PidsLimit: c.number("pids.max"),
	}
	for _, line := range bytes.Split(cpu, []byte("\n")) {
		name, value, _ := strings.Cut(string(line), " ")
		n, _ := strconv.ParseUint(value, 10, 64)
		switch name {
		case "usage_usec":
			s.CPUUsageUsec = n
		case "user_usec":
			s.CPUUserUsec = n
		case "system_usec":
			s.CPUSystemUsec = n
		}
	}
	return s, nil
}

// number reads a file that has one number, or "max" for none.
func (c cgroup) number(file string) uint64 {
	b, err := os.ReadFile(filepath.Join(string(c), file))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
