package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ChildName is the name under which this program, started by the agent, turns into a container's process.
const ChildName = "standin-child"

// Descriptors that the child inherits beside its standard streams.
const (
	controlFD = 3
	mountNSFD = 4 // only of a process that joins a running container
)

// childConfig tells the child what to become.
type childConfig struct {
	// Spec is set for the first process of a container: the child is alone in new namespaces and makes the mounts.
	Spec *specs.Spec `json:"spec,omitempty"`

	// JoinMountNS is set for a further process: descriptor mountNSFD is the container's mount namespace. The other
	// namespaces it was born into.
	JoinMountNS bool `json:"join_mount_ns,omitempty"`

	Process *specs.Process `json:"process"`
}

// childMessage goes both ways: the child reports readiness or an error, the agent answers with an empty one to go on.
type childMessage struct {
	Error string `json:"error,omitempty"`
}

// What await waits for.
const (
	childReady = "ready"
	childGone  = "gone"
)

// Child is the main function of the child. It only returns by ending the process.
func Child() {
	runtime.LockOSThread() // namespaces, capabilities and user belong to the thread that calls execve
	unix.CloseOnExec(controlFD)
	control := os.NewFile(controlFD, "control")
	err := becomeProcess(control)
	json.NewEncoder(control).Encode(childMessage{Error: err.Error()})
	os.Exit(1)
}

func becomeProcess(control *os.File) error {
	messages := json.NewDecoder(control)
	cfg := &childConfig{}
	if err := messages.Decode(cfg); err != nil {
		return err
	}
	if err := cfg.enter(); err != nil {
		return err
	}
	program, env, err := prepareProgram(cfg.Process)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(control).Encode(childMessage{}); err != nil {
		return err
	}
	if err := messages.Decode(&childMessage{}); err != nil {
		return fmt.Errorf("the agent is gone: %w", err)
	}
	if err := setCredentials(cfg.Process); err != nil {
		return err
	}
	return fmt.Errorf("exec %s: %w", program, syscall.Exec(program, cfg.Process.Args, env))
}

// enter puts the child into the container's file systems.
func (cfg *childConfig) enter() error {
	if cfg.Spec != nil {
		return setUpRoot(cfg.Spec)
	}
	if !cfg.JoinMountNS {
		return nil
	}
	unix.CloseOnExec(mountNSFD)
	// A thread that shares its root and working directory with others cannot change mount namespaces (setns(2)).
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare the root directory: %w", err)
	}
	if err := unix.Setns(mountNSFD, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("join the container's mount namespace: %w", err)
	}
	return nil
}

// prepareProgram changes to the working directory and finds the program, so that a missing one is an error of the
// creation (kata-containers src/agent/rustjail/src/container.rs, do_init_child).
func prepareProgram(p *specs.Process) (program string, env []string, err error) {
	if len(p.Args) == 0 {
		return "", nil, fmt.Errorf("process without arguments")
	}
	if err := unix.Chdir(p.Cwd); err != nil {
		return "", nil, fmt.Errorf("working directory %s: %w", p.Cwd, err)
	}
	env = p.Env
	path, home := "", false
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
		home = home || strings.HasPrefix(e, "HOME=")
	}
	if !home {
		env = append(env, "HOME="+homeOf(p.User.UID))
	}
	os.Setenv("PATH", path)
	program = p.Args[0]
	if !strings.Contains(program, "/") {
		found, err := exec.LookPath(program)
		if err != nil {
			return "", nil, fmt.Errorf("the file %s was not found in PATH %q: %w", program, path, err)
		}
		program = found
	} else if _, err := os.Stat(program); err != nil {
		return "", nil, fmt.Errorf("the file %s was not found: %w", program, err)
	}
	if !filepath.IsAbs(program) {
		program = filepath.Join(p.Cwd, program)
	}
	return program, env, nil
}
