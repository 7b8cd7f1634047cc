package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/env"
)

// TestDemo runs the demo: it checks what it shows by itself.
func TestDemo(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("CRI-O needs root")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip(err)
	}
	if _, err := env.Bin("crio"); errors.Is(err, os.ErrNotExist) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	// One line of each step: the demo may not leave one out.
	for _, line := range []string{
		"    $ cat /etc/motd; uname -r\n    This file came out of an EROFS volume.\n",
		"io.katacontainers.erofs.mode\n      layer-verity\n", " erofs ro,", "  status V\n",
		"cat: /etc/motd: Input/output error\n    (exit code 1)\n", "status C (corrupted)\n",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("the demo does not print %q:\n%s", line, out.String())
		}
	}
}
