package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// versionTimeout bounds how long the real shim may take to tell its version: a program of 50 MB that has to be read
	// from a busy disk. A create waits for it, see decideTimeout.
	versionTimeout = 20 * time.Second

	// envAssumeVersion is the version of runtime-rs that a real shim is taken for whose own answer is not Kata's.
	envAssumeVersion = "CRIO_EROFS_ASSUME_RUNTIME_RS"
)

// versionLine is what Kata's shims print: "Kata Containers containerd shim (Rust): id: ..., version: 4.1.0, ..."
// (src/runtime-rs/crates/shim/src/bin/main.rs, and with Golang src/runtime/cmd/containerd-shim-kata-v2/main.go).
var versionLine = regexp.MustCompile(
	`(?m)^Kata Containers containerd shim \((Rust|Golang)\): id: .*, version: (\d+\.\d+\.\d+)`)

var versionValue = regexp.MustCompile(`^(\d+)\.(\d+)\.\d+`)

// identity is what a real shim is. The zero value is a program that does not say that it is Kata's.
type identity struct {
	program string
	kind    string // kindRust, kindGo or ""
	version string // "4.1.0"
	said    string // for messages: how the program ended and what it printed
}

// What Kata's shims call themselves.
const (
	kindRust = "Rust"
	kindGo   = "Golang"
)

// atLeast compares versions. One that cannot be read is older than all.
func (id *identity) atLeast(major, minor int) bool {
	m := versionValue.FindStringSubmatch(id.version)
	if m == nil {
		return false
	}
	a, aerr := strconv.Atoi(m[1])
	b, berr := strconv.Atoi(m[2])
	return aerr == nil && berr == nil && (a > major || a == major && b >= minor)
}

// unknown is the error for a program that has to be one of Kata's and does not say so.
func (id *identity) unknown() error {
	return fmt.Errorf("%s --version does not tell that it is Kata's (%s), so it may not verify volumes: use Kata's "+
		"runtime-rs 4.0.0 or later, or set %s in CRI-O's environment to the version that it equals", id.program, id.said,
		envAssumeVersion)
}

// versionAsker asks the real shim what it is.
type versionAsker struct {
	program string
	running *os.File // the program that the real shim runs, nil if unknown
	assumed string   // of envAssumeVersion
	timeout time.Duration
	log     *logrus.Entry

	mu       sync.Mutex // held while the real shim is asked
	answered bool       // id is Kata's own answer, or stands in for one, and final
	id       identity
	err      error
}

// newVersionAsker asks the real shim for its version, in the background: nobody waits for the answer before the first
// create. pid is the real shim's, 0 if unknown.
//
// The program that runs is asked, not the one that is at its path now: a proxy may be started long after its pod, and after
// an upgrade of Kata the new program would promise what the old one, which attaches the volumes, does not do.
func newVersionAsker(program string, pid int, log *logrus.Entry) *versionAsker {
	a := &versionAsker{program: program, assumed: os.Getenv(envAssumeVersion), timeout: versionTimeout, log: log}
	if pid > 0 {
		f, err := os.Open(fmt.Sprintf("/proc/%d/exe", pid)) // also if the file is deleted: proc(5)
		if err != nil {
			log.WithError(err).WithField("program", program).Warn("the running real shim cannot be asked for its version; asking the program at its path")
		}
		a.running = f
	}
	go func() {
		if id, err := a.identity(); err != nil {
			log.Warn(err)
		} else if id.kind == "" {
			log.Warn(id.unknown())
		}
	}()
	return a
}

// identity returns what the real shim is. If that could not be found out, the next call asks again: a node that was too
// busy once must not lose the pod.
func (a *versionAsker) identity() (identity, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.answered {
		return a.id, a.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.timeout)
	defer cancel()
	out := runReal(ctx, a.path(), []string{"--version"})
	if ctx.Err() != nil {
		out.err = fmt.Errorf("no answer in %v", a.timeout)
	}
	a.log.WithFields(logrus.Fields{"program": a.program, "said": firstLine(out.stdout)}).Info("real shim asked for its version")
	a.answered, a.id, a.err = identify(a.program, out, a.assumed)
	return a.id, a.err
}

// path is where the program to ask is. A child resolves /proc/self before it gives its copies of our files up.
func (a *versionAsker) path() string {
	if a.running == nil {
		return a.program
	}
	return fmt.Sprintf("/proc/self/fd/%d", a.running.Fd())
}

// identify judges what the real shim answered. Kata's own word counts; assumed, if it is not empty, stands in only for
// the answer of a program that ran to its end and said something else. final says that asking again is of no use.
func identify(program string, out output, assumed string) (final bool, id identity, err error) {
	var exit *exec.ExitError
	ended := out.err == nil || errors.As(out.err, &exit) && exit.Exited()
	id = identity{program: program,
		said: fmt.Sprintf("%s, output %q", failure(out.err), firstLine(out.stdout+out.stderr))}
	m := versionLine.FindStringSubmatch(out.stdout)
	switch {
	case out.err == nil && m != nil:
		id.kind, id.version = m[1], m[2]
		return true, id, nil
	case !ended || assumed == "":
		return false, id, nil
	case !versionValue.MatchString(assumed):
		return true, id, fmt.Errorf("%s=%q is not a version like 4.1.0", envAssumeVersion, assumed)
	}
	id.kind, id.version = kindRust, assumed
	return true, id, nil
}

func failure(err error) string {
	if err == nil {
		return "it succeeds"
	}
	return err.Error()
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
