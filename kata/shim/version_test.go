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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	kataLine = "Kata Containers containerd shim (Rust): id: io.containerd.kata.v2, version: 4.1.0, commit: x"
	oldLine  = "Kata Containers containerd shim (Rust): id: io.containerd.kata.v2, version: 3.32.0, commit: x"
	goLine   = `Kata Containers containerd shim (Golang): id: "io.containerd.kata.v2", version: 4.1.0, commit: x`
)

// TestVersionGuard lets real programs answer. want is what the refusal says, "" if volumes may be sent.
func TestVersionGuard(t *testing.T) {
	const unknown = "does not tell that it is Kata's runtime-rs"
	for _, c := range []struct {
		name, script, assumed, want string
	}{
		{"first that verifies", "echo '" + strings.Replace(kataLine, "4.1", "4.0", 1) + "'", "", ""},
		{"newer", "echo '" + kataLine + "'", "", ""},
		{"two digits", "echo '" + strings.Replace(kataLine, "4.1", "10.0", 1) + "'", "", ""},
		{"warning before it", "echo warning; echo '" + kataLine + "'", "", ""},
		{"too old", "echo '" + oldLine + "'", "", "is Kata 3.32.0"},
		{"too old, and assumed not to be", "echo '" + oldLine + "'", "4.1.0", "is Kata 3.32.0"},
		{"Go runtime", "echo '" + goLine + "'", "4.1.0", "Go runtime"},
		{"says nothing", "", "", unknown},
		{"fails", "echo no such option >&2; exit 1", "", "exit status 1, output \"no such option\""},
		{"says the right thing and fails", "echo '" + kataLine + "'; exit 1", "", unknown},
		{"says it on stderr", "echo '" + kataLine + "' >&2", "", unknown},
		{"not Kata", "echo some shim 4.1.0", "", `output "some shim 4.1.0"`},
		{"Kata in name only", "echo 'fake " + kataLine + "'", "", unknown},
		{"no version", "echo '" + strings.Replace(kataLine, "4.1.0", "unknown", 1) + "'", "", unknown},
		{"hangs", "exec sleep 60", "4.1.0", "no answer in 200ms"},
		{"dies", "kill -9 $$", "4.1.0", "signal: killed"},
		{"not Kata, assumed", "echo some shim", "4.1.0", ""},
		{"fails, assumed", "exit 1", "4.0.0", ""},
		{"assumed too old", "exit 1", "3.32.0", "is Kata 3.32.0"},
		{"assumed nonsense", "exit 1", "yes", envAssumeVersion + `="yes" is not a version`},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := testGuard(t, c.script)
			g.assumed = c.assumed
			if c.name != "hangs" {
				g.timeout = time.Minute // however busy the machine is
			}
			err := g.check()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error is %v, want %q", err, c.want)
			}
		})
	}
}

// TestVersionIsAskedAgain: only an answer lasts, not the failure to get one.
func TestVersionIsAskedAgain(t *testing.T) {
	g := testGuard(t, `echo >>"$0.asked"; if [ $(wc -l <"$0.asked") = 2 ]; then echo '`+kataLine+`'; else exit 1; fi`)
	g.timeout = time.Minute
	for i, fits := range []bool{false, true, true} { // the third time, the program would fail
		if err := g.check(); (err == nil) != fits {
			t.Errorf("check %d: %v, want success %t", i, err, fits)
		}
	}
}

func testGuard(t *testing.T, script string) *versionGuard {
	t.Helper()
	program := filepath.Join(t.TempDir(), "shim")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	return &versionGuard{program: program, timeout: 200 * time.Millisecond, log: logrus.NewEntry(log)}
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
