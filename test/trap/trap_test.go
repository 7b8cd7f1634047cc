package trap_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/storage/pkg/reexec"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/trap"
)

const childName = "trap-test-child"

func init() {
	reexec.Register(childName, func() {
		if err := child(os.Args[1]); err != nil {
			fmt.Print(err)
			os.Exit(1)
		}
		os.Exit(0)
	})
}

func TestMain(m *testing.M) {
	if reexec.Init() {
		return
	}
	os.Exit(m.Run())
}

// child makes three directories, each from another goroutine.
func child(dir string) error {
	if err := trap.Arm(false); err != nil {
		return err
	}
	for _, name := range []string{"a", "b", "c"} {
		done := make(chan error)
		go func() { done <- os.Mkdir(filepath.Join(dir, name), 0o700) }()
		if err := <-done; err != nil {
			return err
		}
	}
	return nil
}

func run(t *testing.T, dir string, verdict trap.Verdict) (calls []string, output string, err error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a seccomp filter without no_new_privs")
	}
	cmd := reexec.Command(childName, dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = trap.Run(cmd, func(c *trap.Call) trap.Verdict {
		if !c.Changes() || !c.Within(dir) {
			return trap.Go
		}
		calls = append(calls, c.String())
		if strings.HasSuffix(c.Path(), "/b") {
			return verdict
		}
		return trap.Go
	})
	return calls, out.String(), err
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name    string
		verdict trap.Verdict
		made    int
		check   func(output string, err error) bool
	}{
		{"go", trap.Go, 3, func(_ string, err error) bool { return err == nil }},
		{"kill", trap.Kill, 1, func(_ string, err error) bool { return errors.Is(err, trap.ErrKilled) }},
		{"fail", trap.Fail(unix.EDQUOT), 1, func(output string, err error) bool {
			return err != nil && strings.Contains(output, unix.EDQUOT.Error())
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			calls, output, err := run(t, dir, c.verdict)
			if !c.check(output, err) {
				t.Errorf("ended with %v, output %q", err, output)
			}
			if want := "mkdirat " + dir + "/a mkdirat " + dir + "/b"; !strings.HasPrefix(strings.Join(calls, " "), want) {
				t.Errorf("calls were %q, want %s first", calls, want)
			}
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) != c.made {
				t.Errorf("%d directories were made, want %d (%v)", len(entries), c.made, err)
			}
		})
	}
}

// TestNotArmed runs a program that ends without calling Arm.
func TestNotArmed(t *testing.T) {
	cmd := reexec.Command(childName)
	cmd.Path, cmd.Args = "/bin/false", []string{"false"}
	if err := trap.Run(cmd, func(*trap.Call) trap.Verdict { return trap.Go }); err == nil {
		t.Error("no error from a program that fails")
	}
}
