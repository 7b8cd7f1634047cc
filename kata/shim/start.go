package shim

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/crio-erofs/crio-erofs/driver/safefile"
)

// start is what CRI-O runs for every container of a pod, in the container's bundle. It runs the real shim's start and
// returns the address of the pod's proxy.
//
// Nothing here looks into config.json: whether a container is a sandbox's or belongs to one is decided by the real
// shim, by rules of its version, and shows in the address that it prints.
func start(handler, program string, args []string, id string) (string, error) {
	if !filepath.IsAbs(runDir()) {
		return "", fmt.Errorf("%s=%q is not an absolute path", envRunDir, runDir())
	}
	offer, err := offerEvents(runDir(), id)
	if err != nil {
		return "", fmt.Errorf("socket for the real shim's events: %w", err)
	}
	realAddress, err := startReal(program, args, offer.environment()...)
	if err != nil {
		offer.discard()
		return "", err
	}
	if shimPID() == 0 { // a container's start: the pod's real shim was there before
		offer.discard()
		offer = &eventsOffer{}
	}
	defer offer.close()
	address, err := ensureProxy(handler, program, realAddress, id, offer)
	if err == nil {
		// The real shim has left its own address there, and a restarted CRI-O would go past us.
		err = writeFileAtomic(addressFile, []byte(address), 0o644)
	}
	if err == nil {
		return address, nil
	}
	err = fmt.Errorf("proxy before %s: %w", realAddress, err)
	if shimPID() == 0 {
		return "", err
	}
	if serr := shutdownReal(realAddress, id); serr != nil {
		return "", errors.Join(err, fmt.Errorf("end the real shim, pid %d: %w", shimPID(), serr))
	}
	offer.discard()
	return "", err
}

// ensureProxy returns the address of the proxy before a real shim, and starts it unless it runs. Whose real shim that
// is only a sandbox's start can tell, which makes it: a container's may have been led to any, see checkPod.
func ensureProxy(handler, program, realAddress, id string, offer *eventsOffer) (string, error) {
	p, err := lockPod(podDir(runDir(), realAddress))
	if err != nil {
		return "", err
	}
	serves, err := p.serves()
	if err != nil || serves {
		defer p.unlock()
		return p.address(), err
	}
	state, unknown := p.readState()
	if pid := shimPID(); pid > 0 {
		state = &podState{RealAddress: realAddress, RealShim: program, RealPID: pid, Handler: handler, Sandbox: id,
			Events: offer.path}
	} else if unknown != nil {
		err = fmt.Errorf("no pod of this address is known (%w): is it gone, or not of a handler of crio-erofs? Delete the pod",
			unknown)
	}
	if err == nil {
		err = p.startDaemon(state, offer.listener)
	}
	switch {
	case err == nil:
		defer p.unlock()
		return p.address(), nil
	case unknown != nil:
		return "", errors.Join(err, p.remove())
	}
	p.unlock() // the next container of the pod may have more luck
	return "", err
}

// shimPID returns the pid that a real shim's start left in the bundle when it made a daemon, else 0.
func shimPID() int {
	b, err := safefile.Read(filepath.Join(".", shimPIDFile), 64)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 1 {
		return 0
	}
	return pid
}
