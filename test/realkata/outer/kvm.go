package outer

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// CheckKVM says why VMs cannot run on this machine's own CPU; nil: they can. A device node alone tells nothing: some
// machines hand /dev/kvm to containers and hide the CPU's virtualization from them.
func CheckKVM() error {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err
	}
	if !hasFlag(string(info), "vmx") && !hasFlag(string(info), "svm") {
		return errors.New("the CPU has no virtualization (neither vmx nor svm in /proc/cpuinfo)")
	}
	return openable("/dev/kvm")
}

// CheckKata says why Kata's VMs cannot run on this machine; nil: they can.
func CheckKata() error {
	return errors.Join(CheckKVM(), openable("/dev/vhost-vsock"))
}

func openable(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("no VM with its devices: %w", err)
	}
	return f.Close()
}

func hasFlag(cpuinfo, flag string) bool {
	for line := range strings.Lines(cpuinfo) {
		if name, flags, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "flags" {
			for f := range strings.FieldsSeq(flags) {
				if f == flag {
					return true
				}
			}
		}
	}
	return false
}
