package driver_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/containers/storage/pkg/reexec"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/trap"
)

// TestFaults has each system call of pulls, starts, stops and removals fail, one at a time: what fails has to say so,
// and to leave nothing behind (see faultProcess).
func TestFaults(t *testing.T) {
	needRoot(t)
	for _, mode := range []struct {
		name    string
		disk    func(testing.TB) string
		options []string
	}{
		{"ext4", ext4, nil},
		{"loop", ext4, []string{"erofs.mount=loop"}},
		{"image", xfs, nil},
		{"split", twoDisks, nil},
	} {
		t.Run(mode.name, func(t *testing.T) {
			s := &saboteur{root: mode.disk(t)}
			cleanUp(t, s.root)
			cmd := reexec.Command(append([]string{faultName, s.root}, mode.options...)...)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			go s.obey(out, in)
			err = trap.Run(cmd, s.decide)
			in.Close()
			for _, line := range strings.Split(strings.TrimSpace(stderr.String()), "\n") {
				if strings.Contains(line, "level=") {
					continue // the driver's log
				}
				t.Log(line)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// saboteur has one call of a process fail, when the process asks for it.
type saboteur struct {
	root string

	mu     sync.Mutex
	armed  bool
	calls  int    // since it was armed
	target int    // the call that is to fail
	hit    string // the call that did
}

// obey does what the process says on its standard output: "arm N" has the Nth call from then on fail, "off" no more. The
// answer to the latter is the call that failed, or nothing. "look PID" is answered with what the process has.
func (s *saboteur) obey(orders io.Reader, answers io.Writer) {
	lines := bufio.NewScanner(orders)
	for lines.Scan() {
		s.mu.Lock()
		answer, pid := "", 0
		if n, _ := fmt.Sscanf(lines.Text(), "arm %d", &s.target); n == 1 {
			s.armed, s.calls, s.hit = true, 0, ""
		} else if n, _ := fmt.Sscanf(lines.Text(), "look %d", &pid); n == 1 {
			answer = s.look(pid)
		} else {
			s.armed, answer = false, s.hit
		}
		s.mu.Unlock()
		if _, err := fmt.Fprintln(answers, answer); err != nil {
			return
		}
	}
}

// look answers a process that asks what it has, as JSON. It could look itself, but each of its calls takes long.
func (s *saboteur) look(pid int) string {
	has, err := belongingsOf(s.root, pid)
	if err != nil {
		return err.Error()
	}
	b, err := json.Marshal(has)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (s *saboteur) decide(c *trap.Call) trap.Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	// containers/storage panics if it cannot open or close a lock.
	if !s.armed || !c.Within(s.root) || strings.HasSuffix(c.Path(), ".lock") {
		return trap.Go
	}
	if s.calls++; s.calls != s.target {
		return trap.Go
	}
	errno := unix.EIO
	if c.Changes() && s.calls%2 == 0 {
		errno = unix.ENOSPC
	}
	s.hit = fmt.Sprintf("%s: %v", c, errno)
	return trap.Fail(errno)
}
