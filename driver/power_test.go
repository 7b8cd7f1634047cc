package driver_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	graphdriver "github.com/containers/storage/drivers"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/test/powercut"
	"github.com/crio-erofs/crio-erofs/test/standin/guest"
	"github.com/crio-erofs/crio-erofs/test/vmrun"
)

const (
	// powerCuts is how many states of the disk are looked at, of all that a power cut could have left.
	powerCuts = 30

	// powerPulls is after how many pulls the VM is killed.
	powerPulls = 16

	envPowerGuest = "CRIO_EROFS_POWER_GUEST"

	// marksStart is where on the disk the guest notes what it has done: behind the file system.
	marksStart = 320 << 20
	marksSize  = 8 << 20
	markBlock  = 4096
)

// TestPowerCut kills a VM that is pulling images. Its disk's writes and flushes were recorded, so that many disks can be
// made of it that the cut could have left, at that moment or at any before: with all writes up to the last flush, and
// some of those after it. On each the store opens, what was complete is there and verifies, and nothing else is.
func TestPowerCut(t *testing.T) {
	needRoot(t)
	for _, fs := range []struct{ name, mkfs string }{{"ext4", "mkfs.ext4 -q -F"}, {"xfs", "mkfs.xfs -q -f"}} {
		t.Run(fs.name, func(t *testing.T) {
			dir := t.TempDir()
			disk := filepath.Join(dir, "disk")
			run(t, "truncate", "-s", fmt.Sprint(marksStart), disk)
			run(t, "sh", "-c", fs.mkfs+" "+disk)
			run(t, "truncate", "-s", fmt.Sprint(marksStart+marksSize), disk)
			before := filepath.Join(dir, "before")
			run(t, "cp", "--sparse=always", disk, before)
			log := cutPower(t, fs.name, disk)
			checkCuts(t, fs.name, before, log)
		})
	}
}

// cutPower runs TestPowerGuest in a VM, kills it, and returns the record of its disk's writes.
func cutPower(t *testing.T, fsType, disk string) *powercut.Log {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	logFile := disk + ".log"
	if err := os.WriteFile(logFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	output := &counter{want: powerPulls, reached: make(chan struct{})}
	m, err := vmrun.Start(t.Context(), vmrun.Config{
		Guest: needPowerGuest(t), Files: map[string]string{"/bin/driver.test": self},
		QEMU: powercut.Arguments(disk, logFile, "data"), Output: output,
		Plan: vmrun.Plan{
			Args: []string{"/bin/driver.test", "-test.run", "^TestPowerGuest$", "-test.v"},
			Env:  []string{"PATH=/bin", "HOME=/", "TMPDIR=/data", envPowerGuest + "=1"}, Dir: "/data",
			Mounts: []vmrun.Mount{{Serial: "data", Target: "/data", FSType: fsType}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = m.Wait() // always an error: it was killed
	}()
	select {
	case <-output.reached:
	case <-ended:
		t.Fatalf("the guest ended by itself: %s", output.text())
	case <-time.After(3 * time.Minute):
		t.Errorf("the guest is too slow: %s", output.text())
	}
	m.Kill()
	<-ended
	log, err := powercut.ReadLog(logFile)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func needPowerGuest(t *testing.T) *vmrun.Guest {
	t.Helper()
	for _, tool := range []string{"apt-get", "dpkg-deb", "qemu-system-x86_64", "mkfs.ext4", "mkfs.xfs"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s (make deps)", tool)
		}
	}
	dir := os.Getenv(guest.EnvDir)
	if dir == "" {
		dir = "../.cache/guest"
	}
	files, err := vmrun.Build(t.Context(), dir, ".", vmrun.Kernel61)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// counter waits for so many pulls in what the guest writes.
type counter struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	want    int
	reached chan struct{}
}

func (c *counter) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf.Write(b)
	if c.want > 0 && bytes.Count(c.buf.Bytes(), []byte("pulled ")) >= c.want {
		c.want = 0
		close(c.reached)
	}
	return len(b), nil
}

func (c *counter) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

// TestPowerGuest is what runs in the VM, until the power is cut.
func TestPowerGuest(t *testing.T) {
	if os.Getenv(envPowerGuest) == "" {
		t.Skip("runs in TestPowerCut's VM only")
	}
	m := newMarker(t)
	d, err := openDriver("/data")
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 3))
	var leaves []string
	parent := ""
	for i := 0; ; i++ {
		s := step{"pull", fmt.Sprint("layer", i), parent, rng.IntN(contents)}
		if err := s.take(d); err != nil {
			t.Fatal(err)
		}
		m.note("pulled %s %d", s.ID, s.Content)
		switch leaves = append(leaves, s.ID); {
		case rng.IntN(3) == 0: // the next one stands on this one
			parent, leaves = s.ID, leaves[:len(leaves)-1]
		case len(leaves) > 3:
			n := rng.IntN(len(leaves) - 1) // not the one from which a container is about to start
			m.note("removing %s", leaves[n])
			if err := d.Remove(leaves[n]); err != nil {
				t.Fatal(err)
			}
			leaves = slices.Delete(leaves, n, n+1)
		}
		c := step{"start", "container", s.ID, 0}
		if err := c.take(d); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.Put(c.ID), d.Remove(c.ID)); err != nil {
			t.Fatal(err)
		}
		fmt.Println("pulled", i)
	}
}

// marker writes notes to the disk, past all caches and without a flush: a flush would also save what the driver forgot
// to sync.
type marker struct {
	t    *testing.T
	disk *os.File
	buf  []byte
	next int64
}

func newMarker(t *testing.T) *marker {
	disk, err := os.OpenFile("/dev/vda", os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	buf, err := unix.Mmap(-1, 0, markBlock, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	return &marker{t: t, disk: disk, buf: buf, next: marksStart}
}

func (m *marker) note(format string, args ...any) {
	clear(m.buf)
	copy(m.buf, fmt.Sprintf(format+"\n", args...))
	if _, err := m.disk.WriteAt(m.buf, m.next); err != nil {
		m.t.Fatal(err)
	}
	m.next += markBlock
}

// checkCuts makes disks that a power cut could have left, and looks at each.
func checkCuts(t *testing.T, fsType, before string, log *powercut.Log) {
	disk, err := powercut.NewDisk(before, log, marksStart)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	rng := rand.New(rand.NewPCG(4, uint64(len(log.Entries))))
	cuts := chooseCuts(log, rng)
	complete := map[string]int{}
	marks, noted, most := log.Marks(marksStart), 0, 0
	for _, cut := range cuts {
		for ; noted < len(marks) && marks[noted].Entry < cut; noted++ {
			learnMark(t, complete, marks[noted].Text)
		}
		most = max(most, len(complete))
		image := filepath.Join(t.TempDir(), "cut")
		lost, err := disk.Cut(image, cut, rng)
		if err != nil {
			t.Fatal(err)
		}
		checkCut(t, fsType, image, complete)
		if err := os.Remove(image); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("after %d of %d entries, with %d writes lost, %d layers complete", cut, len(log.Entries), lost, len(complete))
		}
	}
	t.Logf("%d cuts of %d writes and flushes, up to %d layers complete; %d writes were lost", len(cuts), len(log.Entries),
		most, disk.Lost)
	if most < 3 || disk.Lost == 0 {
		t.Errorf("the test shows nothing: %d layers, %d writes lost", most, disk.Lost)
	}
}

// chooseCuts returns the end of the record and random moments before it, half of them just before a flush, when the most
// is at stake.
func chooseCuts(log *powercut.Log, rng *rand.Rand) []int {
	var flushes []int
	for i, e := range log.Entries {
		if e.Flush && i > 0 && !log.Entries[i-1].Flush {
			flushes = append(flushes, i)
		}
	}
	cuts := []int{len(log.Entries)}
	for len(cuts) < powerCuts {
		cuts = append(cuts, 1+rng.IntN(len(log.Entries)), flushes[rng.IntN(len(flushes))])
	}
	slices.Sort(cuts)
	return cuts
}

func learnMark(t *testing.T, complete map[string]int, text string) {
	var id string
	var n int
	if _, err := fmt.Sscanf(text, "pulled %s %d", &id, &n); err == nil {
		complete[id] = n
	} else if _, err := fmt.Sscanf(text, "removing %s", &id); err == nil {
		delete(complete, id)
	} else {
		t.Fatalf("mark %q", text)
	}
}

// checkCut opens the store on a disk that a power cut has left.
func checkCut(t *testing.T, fsType, image string, complete map[string]int) {
	t.Helper()
	root := t.TempDir()
	options := "loop"
	if fsType == "xfs" {
		options += ",nouuid"
	}
	if out, err := exec.Command("mount", "-t", fsType, "-o", options, image, root).CombinedOutput(); err != nil {
		t.Errorf("mount: %v: %s", err, out)
		return
	}
	defer func() {
		for tries := 0; unix.Unmount(root, 0) != nil; tries++ {
			if tries > 100 {
				t.Fatalf("cannot unmount %s", root)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	if _, err := os.Stat(filepath.Join(root, driver.Name)); err != nil {
		return // the driver had not been started yet
	}
	d, err := openDriver(root)
	if err != nil {
		t.Errorf("the store does not open: %v", err)
		return
	}
	checkSound(t, root)
	for id, n := range complete {
		checkContent(t, d, id, n)
	}
	removeEverything(t, d, root)
}

// removeEverything has to be possible, too.
func removeEverything(t *testing.T, d graphdriver.Driver, root string) {
	t.Helper()
	ids, err := d.ListLayers()
	if err != nil {
		t.Error(err)
	}
	for _, id := range ids {
		if err := d.Remove(id); err != nil && !strings.Contains(err.Error(), "not known") {
			t.Error(err)
		}
	}
	for _, dir := range []string{"layers", "volumes", "mounts", "tmp"} {
		wantNames(t, root, dir, 0)
	}
}
