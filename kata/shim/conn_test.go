package shim

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/crio-erofs/crio-erofs/kata"
)

// TestDecisionThatHangsOrCrashes: one bad container must not take the pod's connections with it.
func TestDecisionThatHangsOrCrashes(t *testing.T) {
	wire, _, _ := testCreate(t)
	block := make(chan struct{})
	defer close(block)
	const hangs = "hangs"
	for _, c := range []struct {
		name   string
		decide func() []kata.Mount
		code   codes.Code
		want   string
	}{
		{hangs, func() []kata.Mount { <-block; return nil }, codes.DeadlineExceeded, "file system hanging?"},
		{"panics", func() []kata.Mount { panic("boom") }, codes.FailedPrecondition, "[internal error] boom"},
		{"grows too long", func() []kata.Mount {
			return []kata.Mount{{Source: strings.Repeat("x", framePayloadMax)}}
		}, codes.ResourceExhausted, "ttrpc takes at most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			timeout := time.Minute // however busy the machine is
			if c.name == hangs {
				timeout = 50 * time.Millisecond
			}
			client, upstream := proxiedFor(t, timeout, func(createRequest) (decision, error) {
				return decision{rootfs: c.decide()}, nil
			})
			write(t, client, newFrame(1, frameRequest, 0, wire))
			f, err := newFrameReader(client).next()
			if err != nil {
				t.Fatal(err)
			}
			var resp ttrpc.Response
			if err := proto.Unmarshal(f.payload(), &resp); err != nil {
				t.Fatal(err)
			}
			if codes.Code(resp.Status.GetCode()) != c.code || !strings.Contains(resp.Status.GetMessage(), c.want) {
				t.Errorf("answer is %v, want %v and %q", &resp, c.code, c.want)
			}
			// The next request goes on, and is the first thing that the real shim sees.
			next := newFrame(3, frameRequest, 0, nil)
			write(t, client, next)
			if f, err := newFrameReader(upstream).next(); err != nil || string(f) != string(next) {
				t.Errorf("real shim got %x, %v", f, err)
			}
		})
	}
}

// TestFramesPassUnchanged: kinds, flags and stream ids that this program does not know, both ways and in order.
func TestFramesPassUnchanged(t *testing.T) {
	client, upstream := proxied(t, nil)
	frames := []frame{
		newFrame(1, frameRequest, 2, []byte("\x0a\x01s\x12\x01m")), newFrame(1, 3, 0, []byte("data")),
		newFrame(1, 3, 5, nil), newFrame(4, 77, 255, []byte{0}), newFrame(0, 0, 0, nil),
	}
	for _, way := range [][2]net.Conn{{client, upstream}, {upstream, client}} {
		for _, f := range frames {
			write(t, way[0], f)
		}
		r := newFrameReader(way[1])
		for i, want := range frames {
			if got, err := r.next(); err != nil || string(got) != string(want) {
				t.Errorf("frame %d came out as %x, %v; want %x", i, got, err, want)
			}
		}
	}
}

// TestAnswersBeforeTheEndArrive: what the real shim said before it ended must not be lost, even if the client is in the
// middle of sending.
func TestAnswersBeforeTheEndArrive(t *testing.T) {
	client, upstream := proxied(t, nil)
	write(t, client, newFrame(1, frameRequest, 0, make([]byte, 100))[:50])
	last := newFrame(1, frameResponse, 0, []byte("last words"))
	write(t, upstream, last)
	upstream.Close()
	if got, err := io.ReadAll(client); err != nil || string(got) != string(last) {
		t.Errorf("client got %q, %v", got, err)
	}
}

// proxied returns both ends of a connection through a proxy in this process.
func proxied(t *testing.T, decide func(createRequest) (decision, error)) (client, upstream net.Conn) {
	t.Helper()
	return proxiedFor(t, time.Minute, decide)
}

// proxiedFor is proxied with a limit to how long a decision may take.
func proxiedFor(t *testing.T, timeout time.Duration, decide func(createRequest) (decision, error)) (client,
	upstream net.Conn) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	dir := t.TempDir()
	realShim, front := listen(t, filepath.Join(dir, "r")), listen(t, filepath.Join(dir, "f"))
	p := &proxy{realPath: realShim.Addr().String(), decide: decide, decideTimeout: timeout,
		created: func() {}, log: logrus.NewEntry(log)}
	client, err := dial(front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := front.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	p.conns.Go(func() { p.serve(accepted) })
	if upstream, err = realShim.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		upstream.Close()
		p.conns.Wait()
	})
	return client, upstream
}

func listen(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func write(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}
