package driver_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
)

// belongings lists what a store and this process have: files, mounts, loop devices, descriptors and goroutines.
func belongings(root string) (map[string]int, error) {
	goroutines := runtime.NumGoroutine()
	if err := letGo(); err != nil {
		return nil, err
	}
	has, err := belongingsOf(root, os.Getpid())
	if err == nil {
		has[goroutinesKey] = goroutines
	}
	return has, err
}

// goroutinesKey is where belongings has the number of goroutines.
const goroutinesKey = "goroutines"

// belongingsOf lists what can be seen of a process from outside.
func belongingsOf(root string, pid int) (map[string]int, error) {
	has := map[string]int{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		has["file "+path]++
		if strings.HasSuffix(filepath.Dir(path), "/erofs/mounts") || entry.Name() == "merged" {
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(root))
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		has["mount "+m.Mountpoint]++
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, loop := range loops {
		if b, err := os.ReadFile(loop); err == nil && bytes.HasPrefix(b, []byte(root)) {
			has["loop device of "+strings.TrimSpace(string(b))]++
		}
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	for _, fd := range fds {
		if target, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil {
			has["descriptor of "+target]++
		}
	}
	return has, err
}

// sameBelongings waits a little for what ends by itself: goroutines, and loop devices.
func sameBelongings(want map[string]int, look func() (map[string]int, error)) error {
	for deadline := time.Now().Add(300 * time.Millisecond); ; time.Sleep(5 * time.Millisecond) {
		got, err := look()
		if err != nil {
			return err
		}
		got[goroutinesKey] = max(got[goroutinesKey], want[goroutinesKey]) // some may have ended
		if maps.Equal(got, want) {
			return nil
		}
		if err := differences(want, got); time.Now().After(deadline) || strings.Contains(err.Error(), "file /") {
			return err // files do not go away by themselves
		}
	}
}

func differences(want, got map[string]int) error {
	var lines []string
	for what, n := range got {
		if n != want[what] {
			lines = append(lines, fmt.Sprintf("%s: %d instead of %d", what, n, want[what]))
		}
	}
	for what, n := range want {
		if _, ok := got[what]; !ok {
			lines = append(lines, fmt.Sprintf("%s: gone (%d)", what, n))
		}
	}
	slices.Sort(lines)
	return errors.New(strings.Join(lines, "; "))
}
