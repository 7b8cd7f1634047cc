package contrib_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/crio-erofs/crio-erofs/test/env"
)

// built returns the path of a program of bin/. Without it the test is skipped, but never in CI.
func built(t *testing.T, name string) string {
	t.Helper()
	program, err := env.Bin(name)
	if errors.Is(err, os.ErrNotExist) && os.Getenv("CI") == "" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	return program
}

// crioConfigOf has CRI-O read the files of a directory, and returns what it makes of them, as far as T has it.
func crioConfigOf[T any](t *testing.T, dir string, flags ...string) (config T) {
	t.Helper()
	crio := built(t, "crio")
	empty := filepath.Join(t.TempDir(), "crio.conf")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(crio, append([]string{"--config", empty, "--config-dir", dir}, append(flags, "config")...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(cmd.Args, " "), err, stderr.String())
	}
	if err := toml.Unmarshal(out, &config); err != nil {
		t.Fatal(err)
	}
	return config
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
