package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
	"github.com/crio-erofs/crio-erofs/test/standin/guest"
)

const (
	// bootTimeout bounds a boot until the agent answers. It takes 2 to 5 s on an idle machine.
	bootTimeout = 60 * time.Second

	// bootAttempts bounds how often a boot that died is tried again: QEMU 7.2's emulation crashes a kernel at times.
	bootAttempts = 3

	// stopTimeout bounds how long QEMU may take to leave when asked to.
	stopTimeout = 5 * time.Second
)

// Config is what may differ between VMs.
type Config struct {
	Dir       string // for the console's log; has to exist
	Files     *guest.Files
	MemoryMiB int // 0: DefaultMemoryMiB
	CPUs      int // 0: DefaultCPUs

	// InitData, if not nil, is put beside the agent, in what a confidential VM is measured with when it is started.
	InitData []byte

	// KernelOptions are added to the kernel's command line.
	KernelOptions string
}

// Defaults of a Config.
const (
	DefaultMemoryMiB = 768
	DefaultCPUs      = 2
)

// VM is a running virtual machine.
type VM struct {
	Agent *agentapi.Client

	cmd     *exec.Cmd
	monitor *qmp
	client  *ttrpc.Client
	console string
	done    chan struct{} // closed when QEMU has ended
	exit    error         // of QEMU; valid when done is closed
	disks   diskNumbers
}

// Boot starts a VM and returns when its agent answers.
func Boot(ctx context.Context, cfg Config) (*VM, error) {
	var last error
	for attempt := 1; attempt <= bootAttempts; attempt++ {
		v, err := boot(ctx, cfg)
		if err == nil {
			return v, nil
		}
		last = err
		if ctx.Err() != nil || errors.Is(err, exec.ErrNotFound) {
			break
		}
		logrus.Warnf("boot %d of %d failed: %v", attempt, bootAttempts, err)
	}
	return nil, last
}

func boot(ctx context.Context, cfg Config) (*VM, error) {
	began := time.Now()
	if cfg.InitData != nil {
		files := *cfg.Files
		files.Initrd = filepath.Join(cfg.Dir, guest.InitrdName)
		if err := guest.AppendFile(files.Initrd, cfg.Files.Initrd, guest.InitDataName, cfg.InitData); err != nil {
			return nil, fmt.Errorf("init data: %w", err)
		}
		cfg.Files = &files
	}
	v := &VM{console: filepath.Join(cfg.Dir, "console.log"), done: make(chan struct{})}
	agentConn, agentFile, err := socketPair("agent")
	if err != nil {
		return nil, err
	}
	monitorConn, monitorFile, err := socketPair("monitor")
	if err != nil {
		agentConn.Close()
		agentFile.Close()
		return nil, err
	}
	v.cmd = exec.Command("qemu-system-x86_64", arguments(cfg, v.console)...)
	v.cmd.ExtraFiles = []*os.File{agentFile, monitorFile} // descriptors 3 and 4
	v.monitor, v.client = newQMP(monitorConn), ttrpc.NewClient(agentConn)
	v.Agent = agentapi.NewClient(v.client)
	err = v.start()
	// QEMU has its ends now, or will never have: ours see the end when QEMU goes, and only if nobody else holds them.
	agentFile.Close()
	monitorFile.Close()
	if err != nil {
		v.client.Close()
		monitorConn.Close()
		return nil, err
	}
	if err := v.greet(ctx); err != nil {
		v.Stop()
		return nil, fmt.Errorf("the VM did not come up: %w: %w; its console: %s", err, v.Err(), v.Console(12))
	}
	logrus.Infof("VM is up after %v, process %d", time.Since(began).Round(time.Millisecond), v.PID())
	return v, nil
}

// greet opens the monitor and waits for the agent, or for QEMU's end.
func (v *VM) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	go func() {
		select {
		case <-v.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := v.monitor.run("qmp_capabilities", nil); err != nil {
		return err
	}
	details, err := v.Agent.Check(ctx, &agentapi.Empty{})
	if err != nil {
		return fmt.Errorf("the agent does not answer: %w", err)
	}
	logrus.Debugf("the guest runs Linux %s", details.Kernel)
	return nil
}

// socketPair returns our end as a connection and QEMU's as a file: nothing to find or clean up in a file system, and
// each side sees when the other is gone.
func socketPair(name string) (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}

// start runs QEMU on a thread that lives as long as QEMU: the kernel sends the parent death signal when the thread
// that started the child ends (prctl(2), PR_SET_PDEATHSIG).
func (v *VM) start() error {
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	var stderr strings.Builder
	v.cmd.Stderr = &stderr
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := v.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		v.exit = fmt.Errorf("it ended with %w", endOf(v.cmd.Wait(), stderr.String()))
		v.client.Close()
		close(v.done)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	return nil
}

func endOf(err error, stderr string) error {
	if err == nil {
		err = errors.New("exit status 0") // the guest powered off, or its kernel panicked
	}
	if stderr != "" {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr))
	}
	return err
}

func arguments(cfg Config, console string) []string {
	return append(Hardware(cfg, console),
		"-chardev", "socket,id=agent,fd=3", "-device", "virtio-serial-pci",
		"-device", "virtserialport,chardev=agent,name="+agentapi.PortName,
		"-chardev", "socket,id=monitor,fd=4", "-mon", "chardev=monitor,mode=control",
		"-device", "virtio-scsi-pci,id="+scsiBus,
		"-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=", // for guests that pull images
	)
}

// Hardware returns QEMU's arguments for a machine without any device but a serial console, whose output goes to a file.
// -cpu max,-cx16: QEMU 7.2 emulates cmpxchg16b wrongly with several CPUs, which crashes a 6.12 kernel now and then. The
// kernel's console is what remains to be read after a crash.
func Hardware(cfg Config, console string) []string {
	memory, cpus := cfg.MemoryMiB, cfg.CPUs
	if memory == 0 {
		memory = DefaultMemoryMiB
	}
	if cpus == 0 {
		cpus = DefaultCPUs
	}
	return []string{
		"-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,-cx16",
		"-m", strconv.Itoa(memory), "-smp", strconv.Itoa(cpus),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", cfg.Files.Kernel, "-initrd", cfg.Files.Initrd, "-append", strings.TrimSpace(kernelCommandLine + " " + cfg.KernelOptions),
		"-chardev", "file,id=console,path=" + escape(console), "-serial", "chardev:console",
	}
}

// kernelCommandLine has panic=-1 and -no-reboot end QEMU when the guest's kernel panics. The rest saves time: one
// serial port to probe, no self-tests of ciphers, no mitigations for CPUs that are not real, and short grace periods,
// of which every unmount and removal of a device waits for some.
const kernelCommandLine = "console=ttyS0 quiet panic=-1 rdinit=/init 8250.nr_uarts=1 cryptomgr.notests " +
	"mitigations=off random.trust_cpu=on rcupdate.rcu_expedited=1"

// escape doubles commas, which separate QEMU's options.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }

// PID is QEMU's process id.
func (v *VM) PID() int { return v.cmd.Process.Pid }

// Done is closed when QEMU has ended; Err then says how.
func (v *VM) Done() <-chan struct{} { return v.done }

// Err is nil while QEMU runs.
func (v *VM) Err() error {
	select {
	case <-v.done:
		return v.exit
	default:
		return nil
	}
}

// ErrGone says that QEMU has ended, or is about to.
var ErrGone = errors.New("QEMU is gone")

// Explain returns why QEMU ended, if that is what an error of a call comes from, and the error itself if not. The
// connections break a moment before the kernel reports the process's end.
func (v *VM) Explain(err error) error {
	if !errors.Is(err, ErrGone) && !errors.Is(err, ttrpc.ErrClosed) {
		return err
	}
	select {
	case <-v.done:
		return fmt.Errorf("%w: %w", ErrGone, v.exit)
	case <-time.After(stopTimeout):
		return err
	}
}

// Stop ends QEMU and returns when it is gone. The guest has nothing that would have to be written back.
func (v *VM) Stop() {
	go v.monitor.run("quit", nil)
	select {
	case <-v.done:
	case <-time.After(stopTimeout):
		v.cmd.Process.Kill()
		<-v.done
	}
	v.monitor.conn.Close()
}

// Console returns the last lines of the guest's console.
func (v *VM) Console(lines int) string {
	b, err := os.ReadFile(v.console)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
