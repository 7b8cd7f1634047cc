package shim

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver/safefile"
)

const (
	// envRunDir overrides defaultRunDir.
	envRunDir     = "CRIO_EROFS_RUN_DIR"
	defaultRunDir = "/run/crio-erofs/shim"

	// unixScheme starts every address that a Kata shim prints.
	unixScheme = "unix://"

	// maxSocketPath is what containerd's client takes (util_unix.go of containerd 1.7: sun_path less two).
	maxSocketPath = 106

	socketFile = "sock"
	stateFile  = "state.json"
	lockFile   = "lock"     // held while the pod directory changes
	aliveFile  = "daemon"   // held by the daemon as long as it lives; has its pid
	logFile    = "log"      // the daemon's
	emptyFile  = "no.erofs" // see kata.RuntimeRSRootfs
)

// pod is the pod directory of one real shim, locked unless said otherwise.
type pod struct {
	dir  string
	lock *os.File
}

// podState is what a proxy needs to know, also one that is started again later.
type podState struct {
	RealAddress string `json:"real_address"` // unix://...
	RealShim    string `json:"real_shim"`    // the program
	RealPID     int    `json:"real_pid"`     // of its daemon, 0 if unknown
	Handler     string `json:"handler"`      // the pod's runtime handler
	Sandbox     string `json:"sandbox"`      // the pod's sandbox, by CRI-O's word: its start made the real shim
	Events      string `json:"events"`       // path of the socket for the real shim's events; "": it has no such
}

func (s *podState) realPath() string { return strings.TrimPrefix(s.RealAddress, unixScheme) }

// removeStaleSockets deletes the sockets outside of the pod directory, when the real shim is gone.
func (s *podState) removeStaleSockets() {
	removeStaleSocket(s.realPath())
	if s.Events != "" {
		removeStaleSocket(s.Events)
	}
}

func runDir() string {
	if d := os.Getenv(envRunDir); d != "" {
		return d
	}
	return defaultRunDir
}

// podDir returns the pod directory for a real shim. Its address names the pod: Kata derives it from the sandbox's id,
// and prints it for every container of the pod.
func podDir(run, realAddress string) string {
	sum := sha256.Sum256([]byte(realAddress))
	return filepath.Join(run, hex.EncodeToString(sum[:12]))
}

// lockPod creates a pod directory if need be and locks it.
func lockPod(dir string) (*pod, error) {
	if len(filepath.Join(dir, socketFile)) > maxSocketPath {
		return nil, fmt.Errorf("socket path in %s would be longer than %d bytes: set %s to a shorter directory",
			dir, maxSocketPath, envRunDir)
	}
	for {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		p, err := tryLockPod(dir, unix.LOCK_EX)
		if p != nil || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return p, err
		}
	}
}

// tryLockPod locks an existing pod directory. It returns nil without error if the directory was removed meanwhile.
func tryLockPod(dir string, how int) (*pod, error) {
	f, err := lockedFile(filepath.Join(dir, lockFile), how)
	if err != nil {
		return nil, err
	}
	var mine, there unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &mine)
	if err == nil {
		err = unix.Lstat(f.Name(), &there)
	}
	if err != nil || mine.Ino != there.Ino || mine.Dev != there.Dev {
		f.Close()
		return nil, ignoreNotExist(err)
	}
	return &pod{dir: dir, lock: f}, nil
}

// lockedFile creates a file if need be and locks it with flock(2).
func lockedFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

func (p *pod) unlock() { p.lock.Close() }

func (p *pod) path(name string) string { return filepath.Join(p.dir, name) }

func (p *pod) address() string { return unixScheme + p.path(socketFile) }

// hasDaemon says whether the pod's daemon exists.
func (p *pod) hasDaemon() (bool, error) {
	f, err := lockedFile(p.path(aliveFile), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, f.Close()
}

// serves says whether the pod's daemon exists and takes connections. One that is just dying gets the time for it: killed
// while it starts a program, it leaves lock and listener to the child for the moment until that becomes the program.
func (p *pod) serves() (bool, error) {
	for deadline := time.Now().Add(time.Second); ; time.Sleep(5 * time.Millisecond) {
		exists, err := p.hasDaemon()
		if err != nil || !exists {
			return false, err
		}
		c, err := dial(p.path(socketFile))
		if err == nil {
			err = errors.Join(c.Close(), p.daemonLives())
		}
		if err == nil {
			return true, nil
		}
		if time.Now().After(deadline) {
			return false, fmt.Errorf("the pod's proxy runs and cannot be reached: %w: delete the pod", err)
		}
	}
}

// daemonLives returns an error if the process that the daemon has written down is gone.
func (p *pod) daemonLives() error {
	b, err := safefile.Read(p.path(aliveFile), 64)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return err
	}
	if err := unix.Kill(pid, 0); err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	return nil
}

func (p *pod) readState() (*podState, error) {
	b, err := safefile.Read(p.path(stateFile), 64<<10)
	if err != nil {
		return nil, err
	}
	s := &podState{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("%s: %w", p.path(stateFile), err)
	}
	if !strings.HasPrefix(s.RealAddress, unixScheme+"/") || s.Sandbox == "" {
		return nil, fmt.Errorf("%s: real_address %q, sandbox %q", p.path(stateFile), s.RealAddress, s.Sandbox)
	}
	return s, nil
}

func (p *pod) writeState(s *podState) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return writeFileAtomic(p.path(stateFile), append(b, '\n'), 0o600)
}

// listenAnew makes a socket, also in the place of one that nobody listens on any more.
func listenAnew(path string) (*net.UnixListener, error) {
	if err := ignoreNotExist(os.Remove(path)); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it outlives this process
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// remove deletes the pod directory, which must be locked and without a daemon, and the lock with it.
func (p *pod) remove() error {
	defer p.unlock()
	return os.RemoveAll(p.dir)
}

// removeStaleSocket deletes a real shim's socket that nobody listens on any more: runtime-rs leaves its own behind.
func removeStaleSocket(path string) {
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode().Type() != fs.ModeSocket || realAlive(path) {
		return
	}
	_ = os.Remove(path)
}

// realAlive says whether somebody listens on a socket. Only a refusal says no: a full backlog is a sign of life.
func realAlive(path string) bool {
	c, err := dial(path)
	if err != nil {
		return !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOENT)
	}
	c.Close()
	return true
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
