package outer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/crio-erofs/crio-erofs/test/env"
)

// virtiofsdPlaces is where distributions put the program, which is not in PATH: Debian 12, Debian 13 and Fedora.
var virtiofsdPlaces = []string{"/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"}

func findVirtiofsd() (string, error) {
	if path, err := exec.LookPath("virtiofsd"); err == nil {
		return path, nil
	}
	for _, path := range virtiofsdPlaces {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("virtiofsd is neither in PATH nor among %s: install Debian's package qemu-system-common "+
		"(12) or virtiofsd (13)", strings.Join(virtiofsdPlaces, ", "))
}

// startVirtiofsd offers the machine's file system to a VM, on the socket that it returns.
func startVirtiofsd(ctx context.Context, dir string) (*env.Process, string, error) {
	path, err := findVirtiofsd()
	if err != nil {
		return nil, "", err
	}
	version, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return nil, "", fmt.Errorf("%s --version: %w: %s", path, err, version)
	}
	socket := filepath.Join(dir, "virtiofsd.sock")
	args := []string{"--socket-path=" + socket, "--shared-dir=/", "--sandbox=chroot", "--cache=auto"}
	if strings.Contains(string(version), "FUSE kernel interface") { // QEMU's own, up to 7.2, written in C
		args = []string{"--socket-path=" + socket, "-f", "-o", "source=/,sandbox=chroot,cache=auto"}
	}
	process, err := env.StartProcess(exec.Command(path, args...), filepath.Join(dir, "virtiofsd.log"))
	if err != nil {
		return nil, "", err
	}
	err = process.WaitFor(ctx, 10*time.Second, func(context.Context) error {
		_, err := os.Stat(socket)
		return err
	})
	if err != nil {
		process.Stop(0)
		return nil, "", errors.Join(fmt.Errorf("offer / to the VM: %w", err))
	}
	return process, socket, nil
}
