package standin_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// TestCommands runs the shim as CRI-O and its interposer do outside of a pod's life.
func TestCommands(t *testing.T) {
	for _, test := range []struct {
		args           []string
		stdout, stderr string
	}{
		{[]string{"--version"}, "stand-in for the Kata Containers", ""},
		{[]string{"features"}, "", "invalid argument"},
		// runtime-rs ends with status 0 after an error: who starts it has to look at what it printed.
		{[]string{"-namespace", "default", "-publish-binary", "x", "-id", "none", "start"}, "", "config.json"},
		{[]string{"-info"}, "containerd.io/runtime-allow-mounts", ""},
	} {
		cmd := exec.CommandContext(t.Context(), built.shim, test.args...)
		cmd.Dir = t.TempDir()
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Errorf("%q: %v", test.args, err)
		}
		if !strings.Contains(stdout.String(), test.stdout) || (test.stdout == "") != (stdout.Len() == 0) {
			t.Errorf("%q printed %q, want %q", test.args, stdout.String(), test.stdout)
		}
		if !strings.Contains(stderr.String(), test.stderr) || (test.stderr == "") != (stderr.Len() == 0) {
			t.Errorf("%q: errors %q, want %q", test.args, stderr.String(), test.stderr)
		}
	}
	out, err := exec.Command(built.shim, "guest-info", "--sandbox", "none").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "0 sandboxes") {
		t.Errorf("guest-info of no sandbox: %v: %s", err, out)
	}
}
