package shim

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	kataLine = "Kata Containers containerd shim (Rust): id: io.containerd.kata.v2, version: 4.1.0, commit: x"
	oldLine  = "Kata Containers containerd shim (Rust): id: io.containerd.kata.v2, version: 3.32.0, commit: x"
	goLine   = `Kata Containers containerd shim (Golang): id: "io.containerd.kata.v2", version: 4.1.0, commit: x`
)

// TestIdentity lets real programs answer. want is kind and version, or what the error says.
func TestIdentity(t *testing.T) {
	for _, c := range []struct {
		name, script, assumed, want string
	}{
		{"runtime-rs", "echo '" + kataLine + "'", "", "Rust 4.1.0"},
		{"two digits", "echo '" + strings.Replace(kataLine, "4.1", "10.0", 1) + "'", "", "Rust 10.0.0"},
		{"warning before it", "echo warning; echo '" + kataLine + "'", "", "Rust 4.1.0"},
		{"old, and assumed not to be", "echo '" + oldLine + "'", "4.1.0", "Rust 3.32.0"},
		{"Go runtime, assumed not to be", "echo '" + goLine + "'", "4.1.0", "Golang 4.1.0"},
		{"says nothing", "", "", " "},
		{"says the right thing and fails", "echo '" + kataLine + "'; exit 1", "", " "},
		{"says it on stderr", "echo '" + kataLine + "' >&2", "", " "},
		{"Kata in name only", "echo 'fake " + kataLine + "'", "", " "},
		{"no version", "echo '" + strings.Replace(kataLine, "4.1.0", "unknown", 1) + "'", "", " "},
		{"hangs", "exec sleep 60", "4.1.0", " "},
		{"dies", "kill -9 $$", "4.1.0", " "},
		{"not Kata, assumed", "echo some shim", "4.1.0", "Rust 4.1.0"},
		{"fails, assumed", "exit 1", "4.0.0", "Rust 4.0.0"},
		{"assumed nonsense", "exit 1", "yes", envAssumeVersion + `="yes" is not a version`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := testAsker(t, c.script)
			a.assumed = c.assumed
			id, err := a.identity()
			if err == nil {
				err = errors.New(id.kind + " " + id.version)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want %q", err, c.want)
			}
		})
	}
}

// TestUnknownSaysWhy: the refusal has what the program did.
func TestUnknownSaysWhy(t *testing.T) {
	for script, want := range map[string]string{
		"echo no such option >&2; exit 1": `exit status 1, output "no such option"`,
		"echo some shim 4.1.0":            `it succeeds, output "some shim 4.1.0"`,
		"kill -9 $$":                      "signal: killed",
		"exec sleep 60":                   "no answer in 200ms",
	} {
		a := testAsker(t, script)
		id, err := a.identity()
		if err == nil {
			err = id.unknown()
		}
		if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), envAssumeVersion) {
			t.Errorf("%s: %q, want %q in it", script, err, want)
		}
	}
}

// TestVersionIsAskedAgain: only an answer lasts, not the failure to get one.
func TestVersionIsAskedAgain(t *testing.T) {
	a := testAsker(t, `echo >>"$0.asked"; if [ $(wc -l <"$0.asked") = 2 ]; then echo '`+kataLine+`'; else exit 1; fi`)
	for i, kind := range []string{"", kindRust, kindRust} { // the third time, the program would fail
		if id, err := a.identity(); err != nil || id.kind != kind {
			t.Errorf("answer %d: %+v, %v; want kind %q", i, id, err, kind)
		}
	}
}

func testAsker(t *testing.T, script string) *versionAsker {
	t.Helper()
	program := filepath.Join(t.TempDir(), "shim")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	a := &versionAsker{program: program, timeout: time.Minute, log: logrus.NewEntry(log)}
	if strings.HasPrefix(script, "exec sleep") {
		a.timeout = 200 * time.Millisecond
	}
	return a
}

// TestUnknownRealShimGetsNoVolumes goes all the way: no create reaches a real shim that does not tell what it is,
// unless CRI-O's environment says what to take it for.
func TestUnknownRealShimGetsNoVolumes(t *testing.T) {
	r := newRig(t)
	for id, assumed := range map[string]string{"unknown": "", "vouched": "4.1.0"} {
		pod := r.fixture(id, id)
		c := r.connect(r.mustStart(pod, "TESTSHIM_VERSION=", envAssumeVersion+"="+assumed))
		_, err := c.Create(ctx(t), pod.request())
		_, reached := os.Stat(filepath.Join(r.peerDir(), "create-"+id+".json"))
		if assumed != "" && (err != nil || reached != nil) {
			t.Errorf("%s: %v, %v", id, err, reached)
		}
		if assumed == "" && (status.Code(err) != codes.FailedPrecondition || reached == nil ||
			!strings.Contains(err.Error(), envAssumeVersion)) {
			t.Errorf("%s: %v, reached the real shim: %t", id, err, reached == nil)
		}
		if errors.Is(err, ttrpc.ErrClosed) {
			t.Errorf("%s: connection ended", id)
		}
		r.shutdown(c, id)
	}
}

// TestVersionOfTheRunningShim: a proxy that is started again after an upgrade goes by what the pod's real shim is, not
// by the program that is at its path now. 3.32 takes the same mounts as 4.1 and verifies nothing.
func TestVersionOfTheRunningShim(t *testing.T) {
	r := newRig(t)
	program := filepath.Join(r.dir, "containerd-shim-kata-v2")
	b, err := os.ReadFile(filepath.Join(binDir, "containerd-shim-kata-v2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	env := []string{envRealShim + "=" + program, "TESTSHIM_VERSION=" + oldLine}
	r.mustStart(r.fixture("pod", "pod"), env...)
	r.kill(r.process(daemonArg), unix.SIGKILL)

	upgrade := "#!/bin/sh\n[ \"$1\" = --version ] || exec " + program + ".old \"$@\"\necho '" + kataLine + "'\n"
	if err := os.Rename(program, program+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, []byte(upgrade), 0o755); err != nil {
		t.Fatal(err)
	}
	ctr := r.fixture("ctr", "pod")
	c := r.connect(r.mustStart(ctr, env...))
	if _, err := c.Create(ctx(t), ctr.request()); err == nil || !strings.Contains(err.Error(), "is Kata 3.32.0") {
		t.Errorf("%v; want a refusal by the version that runs", err)
	}
	r.shutdown(c, "pod")
}
