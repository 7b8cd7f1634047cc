// Command vmrun-init is the first process of a guest that runs one program, see package vmrun. It is of no use anywhere
// else.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/agent"
	"github.com/crio-erofs/crio-erofs/test/vmrun/proto"
)

// deviceTimeout bounds the waiting for a port or disk, which the kernel adds a moment after its driver.
const deviceTimeout = 20 * time.Second

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "vmrun-init: only runs as the first process of a VM")
		os.Exit(1)
	}
	if err := agent.Boot(); err != nil {
		agent.PowerOff(err)
	}
	status, err := openPort(proto.StatusPort)
	if err != nil {
		agent.PowerOff(err)
	}
	report := json.NewEncoder(status)
	result := proto.Status{Ended: true}
	if result.Exit, err = run(report); err != nil {
		result.Error = err.Error()
	}
	if err := report.Encode(result); err != nil {
		agent.PowerOff(err)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

// run does what the plan says and returns the program's exit status.
func run(report *json.Encoder) (int, error) {
	b, err := os.ReadFile(proto.PlanPath)
	if err != nil {
		return 0, err
	}
	var plan proto.Plan
	if err := json.Unmarshal(b, &plan); err != nil {
		return 0, err
	}
	if err := os.MkdirAll("/tmp", 0o1777); err != nil {
		return 0, err
	}
	for _, m := range plan.Mounts {
		if err := mountDisk(m); err != nil {
			return 0, err
		}
	}
	output, err := openPort(proto.OutputPort)
	if err != nil {
		return 0, err
	}
	if err := report.Encode(proto.Status{Up: true}); err != nil {
		return 0, err
	}
	exit, err := execute(plan, output)
	for i := len(plan.Mounts) - 1; i >= 0; i-- {
		if e := unix.Unmount(plan.Mounts[i].Target, 0); e != nil {
			err = errors.Join(err, fmt.Errorf("unmount %s: %w", plan.Mounts[i].Target, e))
		}
	}
	return exit, err
}

func execute(plan proto.Plan, output *os.File) (int, error) {
	cmd := exec.Command(plan.Args[0], plan.Args[1:]...)
	cmd.Env, cmd.Dir = plan.Env, plan.Dir
	cmd.Stdout, cmd.Stderr = output, output
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if code := exit.ExitCode(); code >= 0 {
			return code, nil
		}
		return 255, nil // a signal; the output says more
	}
	return 0, err
}

func mountDisk(m proto.Mount) error {
	device, err := await("a disk with serial number "+m.Serial, func() string {
		return find("/sys/block/vd*/serial", m.Serial)
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.Target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(device, m.Target, m.FSType, 0, m.Options); err != nil {
		return fmt.Errorf("mount disk %s (%s) on %s: %w", m.Serial, m.FSType, m.Target, err)
	}
	return nil
}

func openPort(name string) (*os.File, error) {
	path, err := await("a virtio-serial port "+name, func() string {
		return find("/sys/class/virtio-ports/*/name", name)
	})
	if err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY, 0)
}

// find returns the device in /dev of the first file that matches the pattern and has this content.
func find(pattern, content string) string {
	names, _ := filepath.Glob(pattern)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err == nil && strings.TrimSpace(string(b)) == content {
			return filepath.Join("/dev", filepath.Base(filepath.Dir(name)))
		}
	}
	return ""
}

func await(what string, look func() string) (string, error) {
	for deadline := time.Now().Add(deviceTimeout); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if device := look(); device != "" {
			if _, err := os.Stat(device); err == nil {
				return device, nil
			}
		}
	}
	return "", fmt.Errorf("the VM has no %s", strings.TrimPrefix(what, "a "))
}
