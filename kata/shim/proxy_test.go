package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestCreate(t *testing.T) {
	r := newRig(t)
	pod, address, c := r.pod("pod")
	r.mustCreate(c, pod)
	ctr := r.fixture("ctr", "pod")
	cc := r.connect(r.mustStart(ctr))
	sent := ctr.request()
	sent.Options = &anypb.Any{TypeUrl: "runtimeoptions.v1.Options", Value: []byte("config")}
	sent.ProtoReflect().SetUnknown(appendBytes(nil, 99, []byte("from the future")))
	resp, err := cc.Create(ctx(t), sent)
	if err != nil || unix.Kill(int(resp.Pid), 0) != nil {
		t.Fatalf("%v, %v: want a living pid", resp, err)
	}
	got := r.received("ctr")
	for i := len(ctr.manifest.Volumes) - 1; i >= 0; i-- {
		path := ctr.manifest.Volumes[i].Path
		sent.Rootfs = append(sent.Rootfs, &types.Mount{Type: "erofs", Source: path,
			Options: []string{"ro", "loop", "X-containerd.dmverity=" + path + ".dmverity"}})
	}
	sent.Rootfs = append(sent.Rootfs, &types.Mount{Type: "overlay", Source: "overlay"})
	if !proto.Equal(got, sent) {
		t.Errorf("real shim got\n%v, want\n%v", got, sent)
	}
	r.shutdown(r.connect(address), "pod")
}

func TestRefusedCreateDoesNotReachTheRealShim(t *testing.T) {
	r := newRig(t)
	_, _, c := r.pod("pod")
	ctr := r.fixture("ctr", "pod")
	cc := r.connect(r.mustStart(ctr))
	away := ctr.volume() + ".away"
	ctr.link(ctr.volume())
	_, err := cc.Create(ctx(t), ctr.request())
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "is a symbolic link") {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(r.peerDir() + "/create-ctr.json"); err == nil {
		t.Error("the real shim got the request")
	}
	ctr.must(os.Rename(away, ctr.volume()))

	// The connection goes on, and the real shim's own errors come through.
	if _, err := cc.State(ctx(t), &task.StateRequest{ID: "ctr"}); err != nil {
		t.Error(err)
	}
	_, err = cc.Create(ctx(t), r.fixture("fail", "pod").request())
	if status.Code(err) != codes.AlreadyExists || status.Convert(err).Message() != "the guest says no" {
		t.Errorf("error is %v", err)
	}
	r.shutdown(c, "pod")
}

// TestLifeOfContainers: exec, kill and wait, for a hundred containers at once.
func TestLifeOfContainers(t *testing.T) {
	const containers = 100
	r := newRig(t)
	_, address, podClient := r.pod("pod")
	fixtures := make([]*fixture, containers)
	for i := range fixtures {
		fixtures[i] = r.fixture(fmt.Sprintf("ctr%d", i), "pod")
	}
	var wg sync.WaitGroup
	for _, f := range fixtures {
		c := r.connect(address) // every container has a connection of its own
		wg.Go(func() {
			if err := live(ctx(t), c, f); err != nil {
				t.Errorf("%s: %v", f.id, err)
			}
		})
	}
	wg.Wait()
	r.checkMemory(r.process(daemonArg))
	r.shutdown(podClient, "pod")
}

// live takes a container from create to delete, with an exec while a wait blocks.
func live(ctx context.Context, c *client, f *fixture) error {
	if _, err := c.Create(ctx, f.request()); err != nil {
		return err
	}
	if _, err := c.Start(ctx, &task.StartRequest{ID: f.id}); err != nil {
		return err
	}
	waited := make(chan error, 1)
	go func() {
		w, err := c.Wait(ctx, &task.WaitRequest{ID: f.id})
		if err == nil && w.ExitStatus != 137 {
			err = fmt.Errorf("exit status %d, want 137", w.ExitStatus)
		}
		waited <- err
	}()
	if _, err := c.Exec(ctx, &task.ExecProcessRequest{ID: f.id, ExecID: "e"}); err != nil {
		return err
	}
	if w, err := c.Wait(ctx, &task.WaitRequest{ID: f.id, ExecID: "e"}); err != nil || w.ExitStatus != 42 {
		return fmt.Errorf("exec: %v, %w", w, err)
	}
	select {
	case err := <-waited:
		return fmt.Errorf("wait came back before the kill: %w", err)
	default:
	}
	if _, err := c.Kill(ctx, &task.KillRequest{ID: f.id, Signal: 9}); err != nil {
		return err
	}
	if err := <-waited; err != nil {
		return err
	}
	_, err := c.Delete(ctx, &task.DeleteRequest{ID: f.id})
	return err
}

// checkMemory: there is one proxy per pod, so it has to be small.
func (r *rig) checkMemory(pid int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		r.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			r.Logf("proxy's resident memory: %d KiB", kib)
			if kib > 16<<10 {
				r.Errorf("proxy uses %d KiB", kib)
			}
			return
		}
	}
	r.Error("no VmRSS")
}

func TestHangingRealShimBlocksNobodyElse(t *testing.T) {
	r := newRig(t)
	_, address, c := r.pod("pod")
	hang := r.fixture("hang", "pod")
	short, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := r.connect(r.mustStart(hang)).Create(short, hang.request()); err == nil {
		t.Error("create came back")
	}
	for _, other := range []*client{c, r.connect(address)} {
		if err := live(ctx(t), other, r.fixture("ctr", "pod")); err != nil {
			t.Error(err)
		}
	}
	r.shutdown(c, "pod")
}

func TestUnknownMethodsAndServices(t *testing.T) {
	r := newRig(t)
	_, _, c := r.pod("pod")
	for _, service := range []string{taskServiceV2, "containerd.runtime.sandbox.v1.Sandbox"} {
		err := c.ttrpc.Call(ctx(t), service, "Frobnicate", &task.StateRequest{}, &task.StateResponse{})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v, want the real shim's %v", service, err, codes.Unimplemented)
		}
	}
	r.shutdown(c, "pod")
}

func TestBigMessages(t *testing.T) {
	r := newRig(t)
	_, address, c := r.pod("pod")
	var wg sync.WaitGroup
	for _, size := range []int{1, 100 << 10, 1 << 20, framePayloadMax - 4096} {
		wg.Go(func() {
			id := strings.Repeat("x", size)
			got, err := c.State(ctx(t), &task.StateRequest{ID: id})
			if err != nil || got.ID != id {
				t.Errorf("%d bytes: %v", size, err)
			}
		})
	}
	wg.Wait()

	// Longer than ttrpc allows: the stream gets an error, the next one goes on.
	conn, err := net.Dial("unix", strings.TrimPrefix(address, unixScheme))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		_, _ = conn.Write(newFrame(1, frameRequest, 0, make([]byte, framePayloadMax+1)))
		_, _ = conn.Write(newFrame(3, frameRequest, 0, []byte("\xff")))
	}()
	frames := newFrameReader(conn)
	for i, want := range []codes.Code{codes.ResourceExhausted, codes.InvalidArgument} {
		f, err := frames.next()
		if err != nil {
			t.Fatal(err)
		}
		var resp ttrpc.Response
		if err := proto.Unmarshal(f.payload(), &resp); err != nil || codes.Code(resp.Status.GetCode()) != want {
			t.Errorf("stream %d: %v, %v; want %v", 2*i+1, &resp, err, want)
		}
	}
	r.shutdown(c, "pod")
}

// TestRealShimCrashes: CRI-O must learn it at once, on every connection.
func TestRealShimCrashes(t *testing.T) {
	r := newRig(t)
	pod, address, c := r.pod("pod")
	r.mustCreate(c, pod)
	waited := make(chan error, 1)
	other := r.connect(address)
	go func() {
		_, err := other.Wait(ctx(t), &task.WaitRequest{ID: "pod"})
		waited <- err
	}()
	time.Sleep(20 * time.Millisecond) // let it block
	begin := time.Now()
	if _, err := c.Pause(ctx(t), &task.PauseRequest{ID: "pod"}); !errors.Is(err, ttrpc.ErrClosed) {
		t.Errorf("error is %v, want %v", err, ttrpc.ErrClosed)
	}
	if err := <-waited; !errors.Is(err, ttrpc.ErrClosed) {
		t.Errorf("blocked wait: %v, want %v", err, ttrpc.ErrClosed)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("clients learned it after %v", d)
	}
}

// TestRealShimIsKilledUnseen: no request is under way.
func TestRealShimIsKilledUnseen(t *testing.T) {
	r := newRig(t)
	_, _, c := r.pod("pod")
	if err := unix.Kill(r.process("daemon"), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, err := c.State(ctx(t), &task.StateRequest{})
	if d := time.Since(begin); !errors.Is(err, ttrpc.ErrClosed) || d > 5*time.Second {
		t.Errorf("%v after %v", err, d)
	}
}

// TestClientsComeAndGo: connections that end in the middle of a message leave nothing behind.
func TestClientsComeAndGo(t *testing.T) {
	r := newRig(t)
	_, address, c := r.pod("pod")
	proxy := r.process(daemonArg)
	fds := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", proxy))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	if _, err := c.State(ctx(t), &task.StateRequest{}); err != nil {
		t.Fatal(err)
	}
	before := fds()
	for range 50 {
		conn, err := net.Dial("unix", strings.TrimPrefix(address, unixScheme))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(newFrame(1, frameRequest, 0, []byte("half of it"))[:15])
		conn.Close()
	}
	r.eventually("all connections are gone", func() bool { return fds() <= before })
	r.shutdown(c, "pod")
}
