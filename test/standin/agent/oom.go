package agent

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// oomBacklog is how many kills may wait to be asked for.
const oomBacklog = 64

// GetOOMEvent answers when the kernel has killed a process of a container for want of memory.
func (a *Agent) GetOOMEvent(ctx context.Context, _ *agentapi.Empty) (*agentapi.OOMEvent, error) {
	select {
	case id := <-a.ooms:
		return &agentapi.OOMEvent{ContainerID: id}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// watchOOM reports kills in a cgroup until the file is closed. The kernel tells of changes of memory.events by inotify
// (Documentation/admin-guide/cgroup-v2.rst), as Kata's agent hears of them (src/agent/rustjail/src/cgroups/notifier.rs).
func (c cgroup) watchOOM(report func()) (*os.File, error) {
	events := filepath.Join(string(c), "memory.events")
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), events)
	if _, err := unix.InotifyAddWatch(fd, events, unix.IN_MODIFY); err != nil {
		f.Close()
		return nil, err
	}
	go func() {
		b := make([]byte, 4096)
		for seen := uint64(0); ; {
			if _, err := f.Read(b); err != nil {
				return // closed
			}
			if n := c.keyed("memory.events", "oom_kill"); n > seen {
				seen = n
				report()
			}
		}
	}()
	return f, nil
}

// keyed reads a value out of a file of lines "KEY VALUE".
func (c cgroup) keyed(file, key string) uint64 {
	b, err := os.ReadFile(filepath.Join(string(c), file))
	if err != nil {
		return 0 // the cgroup is gone
	}
	for line := range bytes.Lines(b) {
		if name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" ")); string(name) == key {
			n, _ := strconv.ParseUint(string(value), 10, 64)
			return n
		}
	}
	return 0
}

// reportOOM queues a kill; if nobody asks, the oldest ones stay.
func (a *Agent) reportOOM(id string) {
	select {
	case a.ooms <- id:
	default:
		logrus.Warnf("nobody asks for kills for want of memory: container %s", id)
	}
}
