package driver_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/reexec"
)

const elsewhereName = "driver-test-elsewhere"

func init() {
	reexec.Register(elsewhereName, func() {
		if err := elsewhere(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	})
}

// elsewhere waits for the end of its standard input, then uses the store as another process would: it makes a container
// of an image, mounts it, and lets go of everything again.
func elsewhere(root, image string) error {
	fmt.Println("ready")
	if _, err := io.ReadAll(os.Stdin); err != nil {
		return err
	}
	d, err := openDriver(root)
	if err != nil {
		return err
	}
	if err := d.CreateReadWrite("elsewhere", image, nil); err != nil {
		return err
	}
	dir, err := d.Get("elsewhere", graphdriver.MountOpts{})
	if err != nil {
		return err
	}
	_, err = os.ReadFile(dir + "/a")
	return errors.Join(err, d.Put("elsewhere"), d.Remove("elsewhere"), d.Cleanup())
}

// TestOtherNamespace uses the store from a mount namespace that does not see the mounts of this one, as a process in a
// service with PrivateMounts= does: what is mounted here stays.
func TestOtherNamespace(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	apply(t, d, "base", "", makeTar(t, file{name: "a", content: "a"}))
	if err := d.CreateReadWrite("c", "base", nil); err != nil {
		t.Fatal(err)
	}
	cmd := reexec.Command(elsewhereName, root, "base")
	// Package syscall makes all mounts private, too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready"))); err != nil {
		t.Fatal(err)
	}
	container := get(t, d, "c")
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, container); got != "/a ---------- a" {
		t.Errorf("container has %q", got)
	}
	if n := len(mountsIn(t, root, "mounts")); n != 1 {
		t.Errorf("%d host mounts, want 1", n)
	}
	// With the volume goes its mount point.
	put(t, d, "c")
	for _, id := range []string{"c", "base"} {
		if err := d.Remove(id); err != nil {
			t.Error(err)
		}
	}
	wantNames(t, root, "mounts", 0)
}
