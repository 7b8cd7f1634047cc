package driver_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
)

// TestWriteWithoutDescriptors has no descriptor for a file that is there already: it stays as it was.
func TestWriteWithoutDescriptors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "manifest.json")
	if err := driver.WriteFleeting(path, 1); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	writeErr := driver.WriteFleeting(path, 2)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); !errors.Is(writeErr, unix.EMFILE) || string(b) != "1\n" {
		t.Errorf("error %v, and the file has %q, %v", writeErr, b, err)
	}
	if err := driver.WriteFleeting(path, 3); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "3\n" {
		t.Errorf("the file has %q, %v", b, err)
	}
}
