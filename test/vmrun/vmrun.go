package vmrun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/guest"
	"github.com/crio-erofs/crio-erofs/test/standin/vm"
	"github.com/crio-erofs/crio-erofs/test/vmrun/proto"
)

const (
	// upTimeout bounds a boot. It takes 3 to 5 s on an idle machine.
	upTimeout = 120 * time.Second

	// bootAttempts bounds how often a boot that died is tried again: QEMU 7.2's emulation crashes a kernel at times.
	bootAttempts = 3
)

// Mount is a disk that the guest mounts before it runs the program.
type Mount = proto.Mount

// Plan is what the guest runs.
type Plan = proto.Plan

// Disk is a disk image, without regard for what a crash of the host would leave of it.
type Disk struct {
	Path     string
	Serial   string // of at most 20 characters, see Mount
	ReadOnly bool
}

// Config describes a run.
type Config struct {
	Guest *guest.Files
	Plan
	Files         map[string]string // path in the guest → file or directory of the host; programs bring their libraries
	Tools         []string          // programs of the host's, for the guest's /bin
	Disks         []Disk
	QEMU          []string  // further arguments for QEMU, for example other disks
	Output        io.Writer // gets what the program writes; nil: thrown away
	KernelOptions string    // for the kernel's command line
	MemoryMiB     int       // 0: 1024
	CPUs          int       // 0: 2
}

// Guest is a kernel and an initramfs, see Build.
type Guest = guest.Files

// Machine is a VM whose program runs, or has ended.
type Machine struct {
	cmd    *exec.Cmd
	dir    string
	ports  []*os.File
	status *json.Decoder
	stderr strings.Builder
	copied chan struct{} // closed when all output has been copied
	done   chan struct{} // closed when QEMU has ended
}

// Run starts a VM and waits for its program. It returns the program's exit status.
func Run(ctx context.Context, cfg Config) (int, error) {
	m, err := Start(ctx, cfg)
	if err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, m.Kill)
	defer stop()
	exit, err := m.Wait()
	return exit, errors.Join(err, ctx.Err())
}

// Start boots a VM and returns when its program is about to start. After that Wait has to be called.
func Start(ctx context.Context, cfg Config) (*Machine, error) {
	if cfg.Output == nil {
		cfg.Output = io.Discard
	}
	if cfg.MemoryMiB == 0 {
		cfg.MemoryMiB = 1024
	}
	var last error
	for attempt := 1; attempt <= bootAttempts && ctx.Err() == nil; attempt++ {
		m, err := start(ctx, cfg)
		if err == nil || errors.Is(err, exec.ErrNotFound) {
			return m, err
		}
		if last = err; m == nil {
			break
		}
		logrus.Warnf("boot %d of %d failed: %v", attempt, bootAttempts, err)
	}
	return nil, errors.Join(last, ctx.Err())
}

// start boots once. An error without a machine is one that another attempt will not mend.
func start(ctx context.Context, cfg Config) (_ *Machine, err error) {
	m := &Machine{copied: make(chan struct{}), done: make(chan struct{})}
	if m.dir, err = os.MkdirTemp("", "vmrun-"); err != nil {
		return nil, err
	}
	if err := m.launch(cfg); err != nil {
		return nil, errors.Join(err, m.clean())
	}
	timer := time.AfterFunc(upTimeout, m.Kill)
	stop := context.AfterFunc(ctx, m.Kill)
	status, err := m.next()
	stop()
	timer.Stop()
	if err == nil && status.Up {
		return m, nil
	}
	m.Kill()
	err = errors.Join(err, m.ended(), m.clean())
	if status.Error != "" {
		return nil, fmt.Errorf("the VM's init: %s", status.Error)
	}
	return m, fmt.Errorf("the VM did not come up: %w", err)
}

// launch starts QEMU with our ends of its ports.
func (m *Machine) launch(cfg Config) error {
	initrd := filepath.Join(m.dir, "initrd.img")
	if err := writeInitrd(initrd, &cfg); err != nil {
		return err
	}
	files := &guest.Files{Kernel: cfg.Guest.Kernel, Initrd: initrd}
	hardware := vm.Config{Files: files, MemoryMiB: cfg.MemoryMiB, CPUs: cfg.CPUs, KernelOptions: cfg.KernelOptions}
	args := append(vm.Hardware(hardware, m.consolePath()), "-device", "virtio-serial-pci")
	var theirs []*os.File
	defer func() { closeAll(theirs) }()
	for i, name := range []string{proto.OutputPort, proto.StatusPort} {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		m.ports = append(m.ports, os.NewFile(uintptr(pair[0]), name))
		theirs = append(theirs, os.NewFile(uintptr(pair[1]), name))
		args = append(args, "-chardev", fmt.Sprintf("socket,id=port%d,fd=%d", i, 3+i),
			"-device", fmt.Sprintf("virtserialport,chardev=port%d,name=%s", i, name))
	}
	for i, d := range cfg.Disks {
		args = append(args, diskArguments(i, d)...)
	}
	m.cmd = exec.Command("qemu-system-x86_64", append(args, cfg.QEMU...)...)
	m.cmd.ExtraFiles = theirs
	m.cmd.Stderr = &m.stderr
	if err := m.start(); err != nil {
		return err
	}
	m.status = json.NewDecoder(m.ports[1])
	go func() {
		defer close(m.copied)
		_, _ = io.Copy(cfg.Output, m.ports[0])
	}()
	return nil
}

// start runs QEMU on a thread that lives as long as QEMU: the kernel sends the parent death signal when the thread that
// started the child ends (prctl(2), PR_SET_PDEATHSIG).
func (m *Machine) start() error {
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := m.cmd.Start()
		started <- err
		if err == nil {
			_ = m.cmd.Wait()
			close(m.done)
		}
	}()
	return <-started
}

func diskArguments(i int, d Disk) []string {
	drive := fmt.Sprintf("if=none,id=disk%d,format=raw,cache=unsafe,file=%s", i, strings.ReplaceAll(d.Path, ",", ",,"))
	if d.ReadOnly {
		drive += ",readonly=on"
	}
	return []string{"-drive", drive, "-device", fmt.Sprintf("virtio-blk-pci,drive=disk%d,serial=%s", i, d.Serial)}
}

func (m *Machine) consolePath() string { return filepath.Join(m.dir, "console.log") }

// Console returns what the guest's kernel has said, until Wait has returned.
func (m *Machine) Console() string {
	b, err := os.ReadFile(m.consolePath())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// next reads the guest's next report.
func (m *Machine) next() (proto.Status, error) {
	var status proto.Status
	err := m.status.Decode(&status)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("QEMU ended before the guest said how its program ended")
	}
	return status, err
}

// Kill ends the VM at once, as a power cut does: what the guest had not written to its disks is lost.
func (m *Machine) Kill() {
	_ = m.cmd.Process.Kill()
}

// Wait waits until the VM has ended and returns the program's exit status.
func (m *Machine) Wait() (int, error) {
	status, err := m.next()
	if end := m.ended(); err != nil {
		err = errors.Join(err, end)
	} else if status.Error != "" {
		err = fmt.Errorf("the VM's init: %s", status.Error)
	}
	return status.Exit, errors.Join(err, m.clean())
}

// ended waits for QEMU's end and returns its last words.
func (m *Machine) ended() error {
	<-m.done
	<-m.copied
	return fmt.Errorf("QEMU: %q; the end of the console: %s", m.stderr.String(), tail(m.Console()))
}

func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}

func (m *Machine) clean() error {
	closeAll(m.ports)
	return os.RemoveAll(m.dir)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
