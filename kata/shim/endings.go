package shim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// oomFile in a bundle tells CRI-O that the container was killed for want of memory (cri-o 1.34,
	// internal/oci/runtime_vm.go, updateContainerStatus). CRI-O looks for it when a container has ended, once.
	oomFile = "oom"

	// oomGrace is how long the end of a container that something killed is kept from CRI-O, should the news of why be
	// on its way: Kata's agent sees both at once, and sends them on different ways. The kernel may hold back a change of
	// memory.events for 10 ms (Linux kernel/cgroup/cgroup.c, CGROUP_FILE_NOTIFY_MIN_INTV).
	oomGrace = time.Second

	// maxComplaints bounds what a guest can write to the proxy's log, which is in the host's memory.
	maxComplaints = 20

	// stateTimeout bounds how long a real shim may take to say where a container's bundle is.
	stateTimeout = 10 * time.Second

	// statusKilled is the exit status of a process that SIGKILL ended, whoever sent it.
	statusKilled = 128 + uint64(unix.SIGKILL)
)

// endings knows how containers of the pod end.
type endings struct {
	realPath string
	grace    time.Duration // 0: nobody reports kills, so that nothing is worth waiting for
	log      *logrus.Entry

	mu         sync.Mutex
	all        map[string]*ending
	complaints int
}

// ending is what is known of a container's end before and after it.
type ending struct {
	asked    bool          // a client sent SIGKILL, so that there is nothing to find out
	reported chan struct{} // closed when oomFile is there
}

// of returns the ending of a container; the caller holds mu.
func (e *endings) of(id string) *ending {
	if e.all == nil {
		e.all = map[string]*ending{}
	}
	if e.all[id] == nil {
		e.all[id] = &ending{reported: make(chan struct{})}
	}
	return e.all[id]
}

// passes takes note of a client's request for a container's first process.
func (e *endings) passes(method string, r processRequest) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch method {
	case methodKill:
		if r.signal == uint64(unix.SIGKILL) {
			e.of(r.id).asked = true
		}
	case methodDelete:
		delete(e.all, r.id)
	}
}

// oomKill tells CRI-O that a container was killed for want of memory. The id comes from the guest; only the real shim
// knows whether there is such a container, and where its bundle is.
func (e *endings) oomKill(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), stateTimeout)
	defer cancel()
	bundle, err := bundleOf(ctx, e.realPath, id)
	if err != nil {
		return fmt.Errorf("container %q was killed for want of memory: %w", id, err)
	}
	f, err := os.OpenFile(filepath.Join(bundle, oomFile), os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return fmt.Errorf("container %s was killed for want of memory: %w", id, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if end := e.of(id); !closed(end.reported) {
		e.log.WithField("container", id).Info("container was killed for want of memory")
		close(end.reported)
	}
	return f.Close()
}

// complain logs what is wrong with events, as long as that is not too often.
func (e *endings) complain(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.complaints++; e.complaints <= maxComplaints {
		e.log.WithError(err).Warn("events: one is lost")
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// due returns when a container's end may be told: at once (nil), or when it is known why, or after a while.
func (e *endings) due(id string, status uint64) <-chan struct{} {
	if e.grace == 0 || status != statusKilled {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	end := e.of(id)
	if end.asked || closed(end.reported) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.grace)
	go func() {
		defer cancel()
		select {
		case <-end.reported:
		case <-ctx.Done():
		}
	}()
	return ctx.Done()
}

// bundleOf asks a real shim where a container's bundle is: State of the task API, whose answer has it.
func bundleOf(ctx context.Context, realPath, id string) (string, error) {
	answer, err := callReal(ctx, realPath, taskFrame("State", appendBytes(nil, processID, []byte(id))))
	if err != nil {
		return "", fmt.Errorf("state: %w", err)
	}
	var bundle []byte
	if err := eachField(answer, setFields(map[protowire.Number]*[]byte{stateBundle: &bundle})); err != nil {
		return "", fmt.Errorf("state: not a StateResponse: %w", err)
	}
	if !filepath.IsAbs(string(bundle)) {
		return "", fmt.Errorf("state: the real shim has it in the bundle %q", bundle)
	}
	return string(bundle), nil
}
