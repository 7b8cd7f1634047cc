package outer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/standin/guest"
)

// system is what the VM boots.
var system = guest.Other{
	Name: "outer",
	Init: "github.com/crio-erofs/crio-erofs/test/realkata/cmd/outer-init",
	Modules: []string{
		"virtio_pci", "virtio_console", "virtio_blk", "virtiofs", "virtio_rng",
		"ext4", "overlay", "erofs", "loop", "dm_verity", "dm_mod", "xfs",
		"kvm_amd", "kvm_intel", "vhost_vsock", "vhost_net", "tun",
		"veth", "bridge", "macvtap", // networks of pods, and of Kata's VMs
		"sch_ingress", "cls_u32", "cls_matchall", "act_mirred",
		"xfrm_user", "nfnetlink", // families of netlink that the Go runtime opens, used or not
	},
}

// bootAttempts bounds how often a boot that died is tried again: QEMU 7.2's emulation crashes a kernel at times.
const bootAttempts = 3

// Config says what VM to make.
type Config struct {
	Dir       string // private folder
	Cache     string // where the guest is kept
	Source    string // any folder of this module
	MemoryMiB int
	DiskGiB   int
}

// VM is a running VM.
type VM struct {
	cfg       Config
	virtiofsd *env.Process
	qemu      *env.Process
}

// Boot starts a VM and waits until it takes commands.
func Boot(ctx context.Context, cfg Config) (*VM, error) {
	files, err := guest.BuildOther(ctx, cfg.Cache, cfg.Source, system)
	if err != nil {
		return nil, fmt.Errorf("build the outer VM's guest: %w", err)
	}
	if err := makeDisk(ctx, filepath.Join(cfg.Dir, "disk.img"), cfg.DiskGiB); err != nil {
		return nil, err
	}
	var last error
	for range bootAttempts {
		vm, err := boot(ctx, cfg, files)
		if err == nil {
			return vm, nil
		}
		if last = err; ctx.Err() != nil || errors.Is(err, exec.ErrNotFound) {
			break
		}
	}
	return nil, last
}

func boot(ctx context.Context, cfg Config, files *guest.Files) (*VM, error) {
	v := &VM{cfg: cfg}
	var socket string
	var err error
	if v.virtiofsd, socket, err = startVirtiofsd(ctx, cfg.Dir); err != nil {
		return nil, err
	}
	for _, name := range []string{"port.sock", "console.log", "qemu.log"} {
		os.Remove(filepath.Join(cfg.Dir, name)) // of a boot that failed
	}
	cmd := exec.Command("qemu-system-x86_64", v.arguments(files, socket)...)
	if v.qemu, err = env.StartProcess(cmd, v.path("qemu.log")); err != nil {
		v.Close()
		return nil, err
	}
	if err := v.qemu.WaitFor(ctx, 2*time.Minute, v.answers); err != nil {
		v.Close()
		return nil, fmt.Errorf("boot the outer VM: %w; its console: %s", err, v.console())
	}
	return v, nil
}

// makeDisk makes an empty ext4 file system in a sparse file.
func makeDisk(ctx context.Context, path string, gib int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(int64(gib)<<30), f.Close()); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", path).CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4 %s: %w: %s", path, err, out)
	}
	return nil
}

func (v *VM) path(name string) string { return filepath.Join(v.cfg.Dir, name) }

func (v *VM) arguments(files *guest.Files, virtiofs string) []string {
	accel, cpu := "tcg,thread=multi", "max,-cx16,+svm" // without -cx16, kernels crash under QEMU 7.2's emulation
	if CheckKVM() == nil {
		accel, cpu = "kvm", "host"
	}
	memory := fmt.Sprintf("%dM", v.cfg.MemoryMiB)
	return []string{
		"-machine", "q35,memory-backend=mem", "-accel", accel, "-cpu", cpu, "-smp", "2", "-m", memory,
		"-object", "memory-backend-memfd,id=mem,share=on,size=" + memory, // vhost-user needs to share it
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-serial", "file:" + v.path("console.log"),
		"-kernel", files.Kernel, "-initrd", files.Initrd, "-append", "console=ttyS0 quiet panic=-1",
		"-chardev", "socket,id=host,path=" + virtiofs, "-device", "vhost-user-fs-pci,chardev=host,tag=" + HostTag,
		"-drive", "if=none,id=disk,format=raw,cache=unsafe,file=" + v.path("disk.img"),
		"-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci",
		"-chardev", "socket,id=port,server=on,wait=off,path=" + v.path("port.sock"),
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=port,name=" + PortName,
	}
}

func (v *VM) answers(ctx context.Context) error {
	code, err := v.Run(ctx, Request{Args: []string{"true"}, Env: os.Environ(), Dir: "/"}, io.Discard, io.Discard)
	if err == nil && code != 0 {
		err = fmt.Errorf("true ends with %d", code)
	}
	return err
}

// Run runs a command in the VM and returns its exit code. One runs at a time.
func (v *VM) Run(ctx context.Context, r Request, stdout, stderr io.Writer) (int, error) {
	return Call(ctx, v.path("port.sock"), r, stdout, stderr)
}

// Call runs a command in the VM behind a socket.
func Call(ctx context.Context, socket string, r Request, stdout, stderr io.Writer) (int, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	return call(conn, r, stdout, stderr)
}

func (v *VM) console() string {
	content, err := os.ReadFile(v.path("console.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// Close ends the VM.
func (v *VM) Close() {
	if v.qemu != nil {
		v.qemu.Stop(5 * time.Second)
	}
	if v.virtiofsd != nil {
		v.virtiofsd.Stop(5 * time.Second)
	}
}
