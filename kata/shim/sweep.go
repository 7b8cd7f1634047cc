package shim

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// sweep removes what proxies left behind that were killed and whose real shims are gone too.
func sweep(run string) {
	eachDeadPod(run, func(p *pod) {
		state, err := p.readState()
		if err == nil && realAlive(state.realPath()) {
			p.unlock()
			return
		}
		_ = p.remove()
		if err == nil {
			state.removeStaleSockets()
		}
	})
	sweepEvents(run)
}

// sweepEvents removes the sockets for events of starts that were killed before there was a proxy.
func sweepEvents(run string) {
	sockets, err := filepath.Glob(filepath.Join(run, "*"+eventsSuffix))
	if err != nil {
		return
	}
	for _, path := range sockets {
		if fi, err := os.Lstat(path); err == nil && time.Since(fi.ModTime()) > eventsStartTime {
			removeStaleSocket(path)
		}
	}
}

// eachDeadPod calls fn with every pod directory that has no daemon and that nobody else is busy with. fn unlocks it.
func eachDeadPod(run string, fn func(*pod)) {
	entries, err := os.ReadDir(run)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		p, err := tryLockPod(filepath.Join(run, e.Name()), unix.LOCK_EX|unix.LOCK_NB)
		if err != nil || p == nil {
			continue
		}
		if exists, err := p.hasDaemon(); exists || err != nil {
			p.unlock()
			continue
		}
		fn(p)
	}
}

// restoreProxies starts a proxy again for every real shim that lives and has lost its own, for example because the
// service manager killed everything in CRI-O's control group. It returns the first error and goes on after it.
func restoreProxies(run string) (first error) {
	eachDeadPod(run, func(p *pod) {
		defer p.unlock()
		state, err := p.readState()
		if err != nil || !realAlive(state.realPath()) {
			return
		}
		if err := p.startDaemon(state, nil); err != nil && first == nil {
			first = err
		}
	})
	return first
}
