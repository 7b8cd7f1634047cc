package driver_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// TestDiffID has two tars that give one volume: each layer keeps its own digest.
func TestDiffID(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	first := makeTar(t, file{name: "a", content: "a"})
	tars := map[string][]byte{"first": first, "second": append(bytes.Clone(first), make([]byte, 10240)...)}
	for _, id := range []string{"first", "second"} {
		apply(t, d, id, "", tars[id])
	}
	wantNames(t, root, "volumes", 1)
	for id, layer := range tars {
		want := digest.FromBytes(layer).String()
		m, err := d.Metadata(id)
		if err != nil {
			t.Fatal(err)
		}
		if m["DiffID"] != want {
			t.Errorf("metadata of %s has diffID %s, want %s", id, m["DiffID"], want)
		}
		if err := d.CreateReadWrite("c-"+id, id, nil); err != nil {
			t.Fatal(err)
		}
		manifest, err := volume.ReadManifest(get(t, d, "c-"+id))
		if err != nil {
			t.Fatal(err)
		}
		if got := manifest.Volumes[0].DiffID; got != want {
			t.Errorf("manifest of a container of %s has diffID %s, want %s", id, got, want)
		}
	}
}

// meanwhile is a reader that does something before its last byte.
type meanwhile struct {
	*bytes.Reader
	do func()
}

func (m *meanwhile) Read(b []byte) (int, error) {
	if m.Len() > 1 {
		return m.Reader.Read(b[:min(len(b), m.Len()-1)])
	}
	if m.do != nil {
		m.do()
		m.do = nil
	}
	return m.Reader.Read(b)
}

// TestWrittenMeanwhile writes to a layer, or mounts it to do so, while it is converted: what was written stays.
func TestWrittenMeanwhile(t *testing.T) {
	needRoot(t)
	layer := makeTar(t, file{name: "a", content: "a"})
	for _, mounted := range []bool{false, true} {
		d, root := newDriver(t)
		if err := d.Create("layer", "", nil); err != nil {
			t.Fatal(err)
		}
		written := filepath.Join(driver.Home(d), "layers/layer/diff/mine")
		_, err := d.ApplyDiff("layer", "", graphdriver.ApplyDiffOpts{Diff: &meanwhile{bytes.NewReader(layer), func() {
			if mounted {
				written = get(t, d, "layer") + "/mine"
				return
			}
			if err := os.WriteFile(written, []byte("m"), 0o600); err != nil {
				t.Error(err)
			}
		}}})
		if err == nil || !strings.Contains(err.Error(), "written to meanwhile") {
			t.Errorf("mounted %t: error %v does not tell", mounted, err)
		}
		if mounted {
			if err := os.WriteFile(written, []byte("m"), 0o600); err != nil {
				t.Error(err)
			}
			put(t, d, "layer")
		}
		if got := tree(t, get(t, d, "layer")); got != "/mine ---------- m" {
			t.Errorf("mounted %t: layer has %q", mounted, got)
		}
		put(t, d, "layer")
		wantNames(t, root, "volumes", 0)
		wantNames(t, root, "tmp", 0)
	}
}

// TestLastSyncFails lets only the last step of a publication fail, opening the layer's directory to sync it: the layer
// is a directory as before, and the volume is gone.
func TestLastSyncFails(t *testing.T) {
	needRoot(t)
	d, root := newDriver(t)
	layer := makeTar(t, file{name: "a", content: "a"})
	for _, always := range []bool{false, true} {
		if err := d.Create("layer", "", nil); err != nil {
			t.Fatal(err)
		}
		allow := denyOpen(t, filepath.Join(driver.Home(d), "layers/layer"), always)
		_, err := d.ApplyDiff("layer", "", graphdriver.ApplyDiffOpts{Diff: bytes.NewReader(layer)})
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("error is %v, want %v", err, unix.EPERM)
		}
		allow()
		if m, err := d.Metadata("layer"); err != nil || m["Kind"] != "directory" {
			t.Errorf("layer is now %v, %v", m, err)
		}
		if always {
			// Nobody knows which record the disk has. The volume is there for either, until the store is opened again.
			wantNames(t, root, "volumes", 1)
			d = reopen(t, root)
		}
		wantNames(t, root, "volumes", 0)
		wantNames(t, root, "tmp", 0)
		if got := tree(t, get(t, d, "layer")); got != "" {
			t.Errorf("layer has %q", got)
		}
		put(t, d, "layer")
		if err := d.Remove("layer"); err != nil {
			t.Error(err)
		}
	}
}

// denyOpen lets opening a directory fail with EPERM, the first time or always, until the function that it returns is
// called (fanotify(7), FAN_OPEN_PERM).
func denyOpen(t *testing.T, dir string, always bool) (allow func()) {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if err != nil {
		t.Skipf("needs fanotify: %v", err)
	}
	err = unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_ONLYDIR, unix.FAN_OPEN_PERM|unix.FAN_ONDIR,
		unix.AT_FDCWD, dir)
	if err != nil {
		unix.Close(fd)
		t.Skipf("needs fanotify with permission events: %v", err)
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- answerOpens(fd, always, stop) }()
	return func() {
		t.Helper()
		close(stop)
		if err := errors.Join(<-done, unix.Close(fd)); err != nil {
			t.Fatal(err)
		}
	}
}

func answerOpens(fd int, always bool, stop <-chan struct{}) error {
	deny := true
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 10); n == 0 || errors.Is(err, unix.EINTR) {
			continue
		}
		var event unix.FanotifyEventMetadata
		buf := unsafe.Slice((*byte)(unsafe.Pointer(&event)), unsafe.Sizeof(event))
		if _, err := unix.Read(fd, buf); err != nil {
			return err
		}
		response := unix.FanotifyResponse{Fd: event.Fd, Response: unix.FAN_ALLOW}
		if deny {
			response.Response = unix.FAN_DENY
		}
		deny = always
		answer := unsafe.Slice((*byte)(unsafe.Pointer(&response)), unsafe.Sizeof(response))
		if _, err := unix.Write(fd, answer); err != nil {
			return err
		}
		unix.Close(int(event.Fd))
	}
}
