package agent

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Addresses of QEMU's user network (qemu(1), -netdev user): the guest's first, and the host as the guest sees it.
const (
	guestAddress = "10.0.2.15"
	guestNetmask = "255.255.255.0"
	hostAddress  = "10.0.2.2"
)

// networkUp gives the VM's network card its address. A VM without one is fine: only a guest pull needs it.
func networkUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, step := range []struct {
		request uint
		address string
	}{{unix.SIOCSIFADDR, guestAddress}, {unix.SIOCSIFNETMASK, guestNetmask}} {
		card, err := unix.NewIfreq("eth0")
		if err != nil {
			return err
		}
		ip := netip.MustParseAddr(step.address).As4()
		if err := card.SetInet4Addr(ip[:]); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, step.request, card); errors.Is(err, unix.ENODEV) {
			return nil
		} else if err != nil {
			return fmt.Errorf("eth0: set %s: %w", step.address, err)
		}
	}
	card, err := unix.NewIfreq("eth0")
	if err != nil {
		return err
	}
	card.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, card); err != nil {
		return fmt.Errorf("bring up eth0: %w", err)
	}
	return nil
}
