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
	// versionTimeout bounds how long the real shim may take to tell its version.
	versionTimeout = 5 * time.Second

	// envAssumeVersion is the version of runtime-rs that a real shim is taken for whose own answer is not Kata's.
	envAssumeVersion = "CRIO_EROFS_ASSUME_RUNTIME_RS"

	// minMajor is the first version of runtime-rs, 4.0.0, that has dm-verity for volumes in CreateTaskRequest.Rootfs
	// (kata-containers c471644477). 3.32 takes the same mounts and verifies nothing, and the Go runtime never does.
	minMajor = 4
)

// versionLine is what Kata's shims print: "Kata Containers containerd shim (Rust): id: ..., version: 4.1.0, ..."
// (src/runtime-rs/crates/shim/src/bin/main.rs, and with Golang src/runtime/cmd/containerd-shim-kata-v2/main.go).
var versionLine = regexp.MustCompile(
	`(?m)^Kata Containers containerd shim \((Rust|Golang)\): id: .*, version: (\d+\.\d+\.\d+)`)

var versionValue = regexp.MustCompile(`^(\d+)\.\d+\.\d+`)

// versionGuard keeps volumes from real shims that are not known to verify them.
type versionGuard struct {
	program string
	assumed string // of envAssumeVersion
	timeout time.Duration
	log     *logrus.Entry

	mu       sync.Mutex // held while the real shim is asked
	answered bool       // err is the answer, and final
	err      error
}

// newVersionGuard asks the real shim for its version, in the background: nobody waits for the answer before the first
// create.
func newVersionGuard(program string, log *logrus.Entry) *versionGuard {
	g := &versionGuard{program: program, assumed: os.Getenv(envAssumeVersion), timeout: versionTimeout, log: log}
	go func() {
		if err := g.check(); err != nil {
			log.Warnf("volumes will be refused: %v", err)
		}
	}()
	return g
}

// check returns an error unless the real shim is known to verify volumes. If that could not be found out, the next
// check asks again: a node that was too busy once must not lose the pod.
func (g *versionGuard) check() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.answered {
		return g.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), g.timeout)
	defer cancel()
	out := runReal(ctx, g.program, []string{"--version"})
	if ctx.Err() != nil {
		out.err = fmt.Errorf("no answer in %v", g.timeout)
	}
	g.log.Infof("real shim %s says: %s", g.program, out.stdout)
	g.answered, g.err = fits(g.program, out, g.assumed)
	return g.err
}

// fits judges what the real shim answered. Kata's own word counts; assumed, if it is not empty, stands in only for the
// answer of a program that ran to its end and said something else. final says that asking again is of no use.
func fits(program string, out output, assumed string) (final bool, err error) {
	kind, version := "Rust", assumed
	var exit *exec.ExitError
	ended := out.err == nil || errors.As(out.err, &exit) && exit.Exited()
	m := versionLine.FindStringSubmatch(out.stdout)
	switch {
	case out.err == nil && m != nil:
		kind, version = m[1], m[2]
	case ended && assumed != "":
	default:
		return false, fmt.Errorf("%s --version does not tell that it is Kata's runtime-rs (%s, output %q), so it may not "+
			"verify volumes: use Kata 4.0.0 or later, or set %s in CRI-O's environment to the version that it equals",
			program, failure(out.err), firstLine(out.stdout+out.stderr), envAssumeVersion)
	}
	if kind == "Golang" {
		return true, fmt.Errorf("%s is Kata's Go runtime, whose guests cannot verify volumes: use the shim of its "+
			"runtime-rs, 4.0.0 or later, or guest pull", program)
	}
	v := versionValue.FindStringSubmatch(version)
	if v == nil {
		return true, fmt.Errorf("%s=%q is not a version like 4.1.0", envAssumeVersion, version)
	}
	if major, err := strconv.Atoi(v[1]); err != nil || major < minMajor {
		return true, fmt.Errorf("%s is Kata %s, which does not verify volumes: 4.0.0 or later is needed", program, version)
	}
	return true, nil
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
