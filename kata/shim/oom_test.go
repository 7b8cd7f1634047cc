package shim

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	task "github.com/containerd/containerd/api/runtime/task/v2"
	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/standin/publish"
)

// eventsSocket is where the rig's only pod publishes its events.
func (r *rig) eventsSocket() string {
	r.Helper()
	_, sockets := r.left()
	if len(sockets) != 1 {
		r.Fatalf("sockets for events: %q", sockets)
	}
	return sockets[0]
}

// running is a started container of a new pod.
func (r *rig) running(id string) (*fixture, *client) {
	r.Helper()
	pod, _, c := r.pod("pod")
	r.mustCreate(c, pod)
	ctr := r.fixture(id, "pod")
	c = r.connect(r.mustStart(ctr))
	r.mustCreate(c, ctr)
	if _, err := c.Start(ctx(r.TB), &task.StartRequest{ID: id}); err != nil {
		r.Fatal(err)
	}
	return ctr, c
}

// oomKill has the peer's container killed as by a guest's kernel that runs out of memory: it ends, and the event is
// published a while after that.
func (r *rig) oomKill(c *client, ctr *fixture) {
	r.Helper()
	if _, err := c.Resume(ctx(r.TB), &task.ResumeRequest{ID: ctr.id}); err != nil {
		r.Fatal(err)
	}
	w, err := c.Wait(ctx(r.TB), &task.WaitRequest{ID: ctr.id})
	if err != nil || w.ExitStatus != 137 {
		r.Fatalf("wait: %v, %v", w, err)
	}
	// CRI-O looks for it now, and never again.
	if fi, err := os.Lstat(filepath.Join(ctr.bundle, oomFile)); err != nil || fi.Size() != 0 {
		r.Errorf("after the end of the container: %v, %v", fi, err)
	}
}

func TestOOMKill(t *testing.T) {
	r := newRig(t)
	ctr, c := r.running("ctr")
	r.oomKill(c, ctr)
	other := r.fixture("other", "pod")
	r.mustCreate(c, other)
	if _, err := os.Lstat(filepath.Join(other.bundle, oomFile)); err == nil {
		t.Error("another container of the pod counts as killed")
	}
	r.shutdown(c, "pod")
}

// TestOOMKillAfterProxy: the publisher finds the next proxy at the same place.
func TestOOMKillAfterProxy(t *testing.T) {
	r := newRig(t)
	ctr, _ := r.running("ctr")
	r.kill(r.process(daemonArg), unix.SIGKILL)
	r.oomKill(r.connect(r.mustStart(r.fixture("next", "pod"))), ctr)
	r.shutdown(r.connect(r.mustStart(ctr)), "pod")
}

// TestKilled: something kills a container, and nobody says why.
func TestKilled(t *testing.T) {
	r := newRig(t)
	ctr, c := r.running("ctr")
	if _, err := c.Update(ctx(t), &task.UpdateTaskRequest{ID: ctr.id}); err != nil {
		t.Fatal(err)
	}
	if w, err := c.Wait(ctx(t), &task.WaitRequest{ID: ctr.id}); err != nil || w.ExitStatus != 137 {
		t.Errorf("wait: %v, %v", w, err)
	}
	if _, err := os.Lstat(filepath.Join(ctr.bundle, oomFile)); err == nil {
		t.Error("the container counts as killed for want of memory")
	}
	r.shutdown(c, "pod")
}

// TestKilledAndShimGone: an answer that is held back still comes when the real shim is gone.
func TestKilledAndShimGone(t *testing.T) {
	r := newRig(t)
	ctr, c := r.running("ctr")
	if _, err := c.Update(ctx(t), &task.UpdateTaskRequest{ID: ctr.id}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		w, err := c.Wait(ctx(t), &task.WaitRequest{ID: ctr.id})
		if err == nil && w.ExitStatus != 137 {
			err = errors.New("wrong status")
		}
		ended <- err
	}()
	time.Sleep(100 * time.Millisecond) // the answer is on its way, or not: it comes in either case, unless it is lost
	r.shutdown(r.connect(r.mustStart(ctr)), "pod")
	if err := <-ended; err != nil {
		t.Errorf("wait: %v", err)
	}
}

// TestForeignEvents: what the guest or somebody else says does not become a file anywhere.
func TestForeignEvents(t *testing.T) {
	r := newRig(t)
	ctr, c := r.running("ctr")
	socket := r.eventsSocket()
	if err := publish.Event(ctx(t), socket, publish.TopicExit, &eventsapi.TaskExit{ContainerID: ctr.id}); err != nil {
		t.Errorf("another topic: %v", err)
	}
	for id, want := range map[string]string{
		"../../" + ctr.id: "the bundle \"\"", "nobody": "the bundle \"\"", "": "no container's id",
		strings.Repeat("x", 300): "no container's id",
	} {
		if err := publish.OOM(ctx(t), socket, id); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("container %q: %v, want %q", id, err, want)
		}
	}
	for range 2 * maxComplaints {
		_ = publish.OOM(ctx(t), socket, "nobody")
	}
	dirs, _ := r.left()
	log, err := os.ReadFile(filepath.Join(dirs[0], logFile))
	if n := strings.Count(string(log), "events: "); err != nil || n != maxComplaints {
		t.Errorf("there are %d lines about events in the log, want %d: %v", n, maxComplaints, err)
	}
	oom := filepath.Join(ctr.bundle, oomFile)
	if err := os.Symlink(filepath.Join(r.dir, "elsewhere"), oom); err != nil {
		t.Fatal(err)
	}
	if err := publish.OOM(ctx(t), socket, ctr.id); err == nil {
		t.Error("the file was written through a link")
	}
	if err := os.Remove(oom); err != nil {
		t.Fatal(err)
	}
	conn := r.connect(socket)
	if _, err := conn.State(ctx(t), &task.StateRequest{ID: ctr.id}); err == nil || !strings.Contains(err.Error(), "not served") {
		t.Errorf("a task's state by the socket for events: %v", err)
	}
	r.shutdown(c, "pod")
}

// TestEventsOfAnotherEngine: an engine that wants the events itself gets them.
func TestEventsOfAnotherEngine(t *testing.T) {
	r := newRig(t)
	pod := r.fixture("pod", "pod")
	address := r.mustStart(pod, "TTRPC_ADDRESS=/run/engine.sock")
	if env := r.startCall("pod").Env; !slices.Contains(env, "TTRPC_ADDRESS=/run/engine.sock") {
		t.Errorf("the real shim got %q", env)
	}
	if _, sockets := r.left(); len(sockets) > 0 {
		t.Errorf("there are %q", sockets)
	}
	r.shutdown(r.connect(address), "pod")
}

func TestDue(t *testing.T) {
	e := &endings{grace: time.Hour}
	if e.due("a", 0) != nil || e.due("a", 1) != nil || e.due("a", 143) != nil {
		t.Error("the end of a container that nobody killed is held back")
	}
	e.passes(methodKill, processRequest{id: "b", signal: 15})
	held := e.due("b", 137)
	if held == nil {
		t.Fatal("the end of a killed container is not held back")
	}
	close(e.of("b").reported)
	<-held
	e.passes(methodKill, processRequest{id: "c", signal: 9})
	if e.due("c", 137) != nil {
		t.Error("the end that a client asked for is held back")
	}
	e.passes(methodDelete, processRequest{id: "c"})
	if e.all["c"] != nil {
		t.Error("a deleted container is still known")
	}
	if (&endings{}).due("a", 137) != nil {
		t.Error("an end is held back for events that nobody sends")
	}
}

func TestSweepEvents(t *testing.T) {
	run := t.TempDir()
	old, young := filepath.Join(run, "old"+eventsSuffix), filepath.Join(run, "young"+eventsSuffix)
	for _, path := range []string{old, young} {
		l, err := listenAnew(path)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	past := time.Now().Add(-2 * eventsStartTime)
	if err := os.Chtimes(old, past, past); err != nil {
		t.Fatal(err)
	}
	sweep(run)
	if _, err := os.Lstat(old); err == nil {
		t.Error("a socket that nobody listens on stays")
	}
	if _, err := os.Lstat(young); err != nil {
		t.Errorf("a socket that may be about to be listened on is gone: %v", err)
	}
}
