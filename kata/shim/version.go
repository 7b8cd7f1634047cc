package shim

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"
)

// versionTimeout bounds how long the real shim may take to tell its version.
const versionTimeout = 5 * time.Second

// versionLine is what Kata's shims print: "Kata Containers containerd shim (Rust): id: ..., version: 4.1.0, ..."
// (src/runtime-rs/crates/shim/src/bin/main.rs, and with Golang src/runtime/cmd/containerd-shim-kata-v2/main.go).
var versionLine = regexp.MustCompile(`containerd shim \((Rust|Golang)\):.*version: "?(\d+)\.(\d+)`)

// versionGuard keeps volumes from real shims that would attach them and not verify them.
type versionGuard struct {
	done chan struct{}
	err  error
}

// newVersionGuard asks the real shim for its version, in the background: nobody waits for the answer before the first
// create.
func newVersionGuard(program string, log *logrus.Entry) *versionGuard {
	g := &versionGuard{done: make(chan struct{})}
	go func() {
		defer close(g.done)
		ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
		defer cancel()
		out := runReal(ctx, program, []string{"--version"})
		log.Infof("real shim %s says: %s", program, out.stdout)
		if out.err != nil {
			log.Warnf("version of %s: %v", program, out.err)
		}
		g.err = fits(program, out.stdout)
	}()
	return g
}

func (g *versionGuard) check() error {
	<-g.done
	return g.err
}

// fits judges a version line. dm-verity of volumes in CreateTaskRequest.Rootfs came with runtime-rs 4.0.0
// (kata-containers c471644477); 3.32 takes the same mounts and verifies nothing, and the Go runtime never does. What
// is not Kata's version line is let through: it is a shim that somebody chose, not an old Kata.
func fits(program, line string) error {
	m := versionLine.FindStringSubmatch(line)
	if m == nil {
		return nil
	}
	if m[1] == "Golang" {
		return fmt.Errorf("%s is Kata's Go runtime, whose guests cannot verify volumes: use the shim of its runtime-rs, "+
			"4.0.0 or later, or guest pull", program)
	}
	if major, err := strconv.Atoi(m[2]); err != nil || major < 4 {
		return fmt.Errorf("%s is Kata %s.%s, which does not verify volumes: 4.0.0 or later is needed", program, m[2], m[3])
	}
	return nil
}
