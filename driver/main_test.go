package driver_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containers/storage/pkg/reexec"
	"github.com/moby/sys/mountinfo"
)

// TestMain gives all tests one temporary directory and, at the end, fails if anything in it is still mounted or the
// backing file of a loop device.
func TestMain(m *testing.M) {
	if reexec.Init() {
		return // a child of a test, or of containers/storage
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "driver-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := os.Setenv("TMPDIR", dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	// The kernel frees a loop device a little later than it unmounts what was on it.
	for tries := 0; tries < 20 && leftovers(dir) != nil; tries++ {
		time.Sleep(100 * time.Millisecond)
	}
	if err := leftovers(dir); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		code = 1
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		code = 1
	}
	return code
}

func leftovers(dir string) error {
	var errs []error
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	errs = append(errs, err)
	for _, m := range mounts {
		errs = append(errs, fmt.Errorf("still mounted: %s", m.Mountpoint))
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	errs = append(errs, err)
	for _, loop := range loops {
		b, err := os.ReadFile(loop)
		if err == nil && strings.HasPrefix(string(b), dir) {
			errs = append(errs, fmt.Errorf("loop device left: %s of %s", loop, strings.TrimSpace(string(b))))
		}
	}
	return errors.Join(errs...)
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount file systems")
	}
}
