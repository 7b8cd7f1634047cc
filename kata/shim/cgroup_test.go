package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestProxyFollowsTheRealShim: Kata moves its shim to the pod's control group when the sandbox is created, and the
// proxy must not stay in CRI-O's.
func TestProxyFollowsTheRealShim(t *testing.T) {
	hierarchy, group := makeCgroup(t)
	r := newRig(t)
	pod, _, c := r.pod("pod")
	kataPID, proxy := r.process("daemon"), r.process(daemonArg)
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), fmt.Appendf(nil, "%d", kataPID), 0); err != nil {
		t.Skipf("cannot move a process to control group %s: %v", group, err)
	}
	r.mustCreate(c, pod)
	want, err := readCgroups(fmt.Sprintf("/proc/%d/cgroup", kataPID))
	pod.must(err)
	r.eventually("the proxy is in the real shim's control group", func() bool {
		got, err := readCgroups(fmt.Sprintf("/proc/%d/cgroup", proxy))
		return err == nil && got[hierarchy] == want[hierarchy] && strings.HasSuffix(got[hierarchy], filepath.Base(group))
	})
	r.shutdown(c, "pod")
}

// makeCgroup makes a control group in a hierarchy that this process may use.
func makeCgroup(t *testing.T) (hierarchy, dir string) {
	t.Helper()
	mine, err := readCgroups("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, hierarchy := range []string{"", "pids", "freezer"} {
		for _, root := range cgroupRoots(hierarchy) {
			dir := filepath.Join(root, mine[hierarchy], fmt.Sprintf("crio-erofs-test-%d", os.Getpid()))
			if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "cgroup.procs")); err != nil {
				continue
			}
			if err := os.Mkdir(dir, 0o755); err != nil {
				continue
			}
			t.Cleanup(func() { removeCgroup(t, dir) }) // after the rig's, which waits for the processes in it
			return hierarchy, dir
		}
	}
	t.Skip("no control group hierarchy that can be written")
	return "", ""
}

// removeCgroup removes a control group whose processes are ending: that takes a little longer than one can see them.
func removeCgroup(t *testing.T, dir string) {
	t.Helper()
	err := os.Remove(dir)
	for deadline := time.Now().Add(5 * time.Second); errors.Is(err, unix.EBUSY) && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
		err = os.Remove(dir)
	}
	if err != nil {
		t.Error(err)
	}
}
