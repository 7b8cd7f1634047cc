package shim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/kata/modes"
)

const (
	// envRealShim names the real shim, should its name not follow from ours.
	envRealShim = "CRIO_EROFS_REAL_SHIM"

	// A shim is called after the handler (cri-o 1.34, pkg/config/config.go, ValidateRuntimePath). nameInfix is what
	// ours has and the real shim's has not.
	namePrefix = "containerd-shim-"
	nameSuffix = "-v2"
	nameInfix  = "-erofs"

	// maxOutput bounds what is kept of a real shim's output.
	maxOutput = 16 << 10
)

// findReal returns the real shim's path for a handler: what the administrator says, else by the name that this program
// was started by, in the same directory and in PATH.
func findReal(argv0, handler string) (string, error) {
	for _, said := range []func(string) (path, by string, err error){saidByEnvironment, saidByConfiguration} {
		path, by, err := said(handler)
		if err != nil {
			return "", err
		}
		if path == "" {
			continue
		}
		if !filepath.IsAbs(path) {
			return "", fmt.Errorf("real Kata shim: %s=%q is not an absolute path", by, path)
		}
		if err := usableReal(path); err != nil {
			return "", fmt.Errorf("real Kata shim, from %s: %w", by, err)
		}
		return path, nil
	}
	return findByName(argv0, handler)
}

func saidByEnvironment(string) (path, by string, err error) {
	return os.Getenv(envRealShim), envRealShim, nil
}

func saidByConfiguration(handler string) (path, by string, err error) {
	h, err := loadHandler(handler)
	return h.Shim, "shim in [handlers." + handler + "]", err
}

// findByName takes what is before "-erofs" in the handler's name for the real shim's handler: kata-erofs and
// kata-erofs-layer both run containerd-shim-kata-v2, and kata-qemu-erofs runs containerd-shim-kata-qemu-v2.
func findByName(argv0, handler string) (string, error) {
	real, _, ok := strings.Cut(handler, nameInfix)
	if !ok || real == "" {
		return "", fmt.Errorf("the handler's name %q has no %q behind the real Kata shim's, so that does not follow from it: "+
			"rename the program, set shim in [handlers.%s] of %s, or set %s", handler, nameInfix, handler, modes.DefaultPath,
			envRealShim)
	}
	name := namePrefix + real + nameSuffix
	dir := filepath.Dir(argv0)
	if !strings.Contains(argv0, "/") {
		dir = filepath.Dir(lookPathOr(argv0, "."))
	}
	beside, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		return "", err
	}
	besideErr := usableReal(beside)
	if besideErr == nil {
		return beside, nil
	}
	if p, err := exec.LookPath(name); err == nil {
		if err := usableReal(p); err != nil {
			return "", fmt.Errorf("real Kata shim: %w", err)
		}
		return filepath.Abs(p)
	}
	return "", fmt.Errorf("real Kata shim not found: %w, and no %s in PATH: install Kata Containers there, set shim in "+
		"[handlers.%s] of %s, or set %s", besideErr, name, handler, modes.DefaultPath, envRealShim)
}

func lookPathOr(name, other string) string {
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	return other
}

// usableReal makes sure that a path is a program, and not this one, which would call itself for ever.
func usableReal(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if fi.IsDir() || fi.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%s is not an executable file", path)
	}
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return err
	}
	if os.SameFile(self, fi) {
		return fmt.Errorf("%s is this program itself", path)
	}
	return nil
}

// execReal becomes the real shim.
func execReal(program string, args []string) error {
	err := unix.Exec(program, append([]string{program}, args...), os.Environ())
	return fmt.Errorf("exec %s: %w", program, err)
}

// output is what a program wrote and how it ended.
type output struct {
	stdout, stderr string
	err            error
}

// runReal runs the real shim to its end with our environment, and more of it, and our working directory. Output goes to files in memory
// and not to pipes: a daemon that keeps one open must not keep us waiting.
func runReal(ctx context.Context, program string, args []string, more ...string) output {
	stdout, err := memFile("stdout")
	if err != nil {
		return output{err: err}
	}
	defer stdout.Close()
	stderr, err := memFile("stderr")
	if err != nil {
		return output{err: err}
	}
	defer stderr.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Env = append(os.Environ(), more...)
	err = cmd.Run()
	return output{stdout: readOutput(stdout), stderr: readOutput(stderr), err: err}
}

func memFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func readOutput(f *os.File) string {
	b := make([]byte, maxOutput)
	n, _ := f.ReadAt(b, 0)
	return string(bytes.TrimSpace(b[:n]))
}

// startReal runs the real shim's start and returns the address that it prints. runtime-rs ends with status 0 even if
// it fails (kata-containers 4.1.0, src/runtime-rs/crates/shim/src/bin/main.rs), so the output has to be looked at.
func startReal(program string, args []string, environment ...string) (string, error) {
	out := runReal(context.Background(), program, args, environment...)
	address := out.stdout
	if out.err == nil && (!strings.HasPrefix(address, unixScheme+"/") || strings.ContainsAny(address, "\r\n")) {
		out.err = errors.New("it printed no address")
		if address != "" {
			out.err = fmt.Errorf("it printed %q, which is no %s address", address, unixScheme)
		}
	}
	if out.err == nil {
		return address, nil
	}
	said := strings.TrimSpace(out.stderr + "\n" + out.stdout)
	if said == "" {
		said = "it wrote nothing to stderr"
	}
	return "", fmt.Errorf("real Kata shim %s start: %w: %s", program, out.err, said)
}

// shutdownReal ends a real shim that was started and cannot be used.
func shutdownReal(address, id string) error {
	path := strings.TrimPrefix(address, unixScheme)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_, err := callReal(ctx, path, shutdownFrame(id))
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) || isClosed(err) {
		err = nil
	}
	for range 50 {
		if !realAlive(path) {
			removeStaleSocket(path)
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.Join(errors.New("it still runs after Shutdown"), err)
}
