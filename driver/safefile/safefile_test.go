package safefile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/safefile"
)

const limit = 8

// TestRead has both ways to read a file meet what may be in its place. No text: the file is read.
func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		make        func(path string) error
		read, owned string
	}{
		"a file":             {file("12345678", 0o644), "", ""},
		"an empty file":      {file("", 0o644), "", ""},
		"a large file":       {file("123456789", 0o644), "file is larger than 8 bytes", "file is larger than 8 bytes"},
		"writable by others": {file("1", 0o664), "", "file: mode -rw-rw-r-- lets others than the owner write it: chmod go-w"},
		"somebody else's": {
			func(path string) error { return errors.Join(file("1", 0o600)(path), os.Chown(path, 1000, 0)) },
			"", "file: owned by uid 1000, not by root: chown root",
		},
		"a link": {
			func(path string) error {
				return errors.Join(file("1", 0o600)(path+".1"), os.Symlink(path+".1", path))
			},
			"file is a symbolic link, not a regular file", "",
		},
		"a pipe":      {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "file is not a regular file", "not a regular"},
		"a directory": {func(path string) error { return os.Mkdir(path, 0o700) }, "file is not a regular file", "not a regular"},
		"nothing":     {func(string) error { return nil }, "no such file", "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Geteuid() != 0 && name == "somebody else's" {
				t.Skip("only root can give files away")
			}
			path := filepath.Join(t.TempDir(), "file")
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			_, err := safefile.Read(path, limit)
			check(t, "Read", err, c.read)
			_, _, err = safefile.ReadOwned(path, limit)
			check(t, "ReadOwned", err, c.owned)
		})
	}
}

func file(content string, mode os.FileMode) func(string) error {
	return func(path string) error {
		return errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode))
	}
}

func check(t *testing.T, what string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", what, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: error is %v, want %q in it", what, err, want)
	}
}
