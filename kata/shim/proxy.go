package shim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

const (
	// decideTimeout bounds how long a create may wait for the host's file system. Later requests of the same
	// connection wait behind it, because a ttrpc server refuses stream ids that come out of order.
	decideTimeout = 30 * time.Second

	// lingerTimeout bounds how long a client may take to notice the end of its connection.
	lingerTimeout = time.Second

	// dialTimeout bounds how long a real shim with a full backlog is asked again.
	dialTimeout = 5 * time.Second
)

// proxy passes ttrpc connections on to the real shim.
type proxy struct {
	realPath string // of the real shim's socket
	decide   func(createRequest) (decision, error)
	created  func() // called when a create has been answered
	endings  *endings
	log      *logrus.Entry

	decideTimeout time.Duration

	conns sync.WaitGroup
}

// serve handles one client's connection, with a connection of its own to the real shim, until either side ends.
func (p *proxy) serve(client *net.UnixConn) {
	defer client.Close()
	if err := sameUser(client); err != nil {
		p.log.WithError(err).Warn("connection refused")
		return
	}
	upstream, err := dial(p.realPath)
	if err != nil {
		p.log.WithError(err).Error("no connection to the real shim")
		return
	}
	c := &conn{proxy: p, client: client, upstream: upstream, streams: map[uint32]stream{}}
	go func() {
		// The client is gone, or upstream no longer takes anything. Ending upstream ends fromUpstream below.
		if err := c.fromClient(); !isClosed(err) {
			p.log.WithError(err).Warn("client's connection ended")
		}
		upstream.Close()
	}()
	if err := c.fromUpstream(); !isClosed(err) {
		p.log.WithError(err).Warn("connection to the real shim ended")
	}
	upstream.Close()
	c.held.Wait()
	c.linger()
}

// conn is one client's connection and the real shim's that belongs to it.
type conn struct {
	*proxy
	client, upstream *net.UnixConn

	toClient sync.Mutex     // whole frames only
	held     sync.WaitGroup // answers that are held back

	asking  sync.Mutex
	streams map[uint32]stream // of requests that were passed on, not answered yet, and whose answer matters
}

// stream is what was asked for on a ttrpc stream: a create, or the end of a container.
type stream struct {
	create  bool
	waitFor string
}

// fromClient passes requests on, in their order.
func (c *conn) fromClient() error {
	r := newFrameReader(c.client)
	for {
		f, err := r.next()
		if err != nil {
			return err
		}
		out, refusal := c.request(f)
		if refusal != nil {
			c.log.WithField("stream", f.streamID()).WithError(refusal).Warn("request refused")
			if err := c.answer(statusFrame(f.streamID(), refusal)); err != nil {
				return err
			}
			continue
		}
		if _, err := c.upstream.Write(out); err != nil {
			return err
		}
	}
}

// fromUpstream passes answers back.
func (c *conn) fromUpstream() error {
	r := newFrameReader(c.upstream)
	for {
		f, err := r.next()
		if err != nil {
			return err
		}
		if f.oversized() {
			f = statusFrame(f.streamID(), oversized(f))
		}
		if err := c.response(f); err != nil {
			return err
		}
	}
}

// response passes an answer on, and what follows from it.
func (c *conn) response(f frame) error {
	s := c.answered(f)
	if s.waitFor != "" {
		if status, ok := exitStatus(f); ok {
			if due := c.endings.due(s.waitFor, status); due != nil {
				f = bytes.Clone(f)
				c.held.Go(func() { <-due; _ = c.answer(f) }) // a client that is gone has no use for it
				return nil
			}
		}
	}
	if err := c.answer(f); err != nil {
		return err
	}
	if s.create {
		c.created()
	}
	return nil
}

func (c *conn) answer(f frame) error {
	c.toClient.Lock()
	defer c.toClient.Unlock()
	_, err := c.client.Write(f)
	return err
}

// request returns what to send to the real shim for a client's frame, or why the client is to get an error instead.
func (c *conn) request(f frame) (frame, error) {
	if f.oversized() {
		return nil, oversized(f)
	}
	if f.kind() != frameRequest {
		return f, nil
	}
	req, err := parseRequest(f.payload())
	if err != nil {
		return nil, &statusError{codeInvalidArgument, err}
	}
	if req.isCreate() {
		return c.create(f, req)
	}
	if req.isTask() {
		c.note(f.streamID(), req)
	}
	return f, nil
}

// note looks at a request that says how a container is to end. What cannot be read is for the real shim to refuse.
func (c *conn) note(streamID uint32, req request) {
	if !slices.Contains([]string{methodWait, methodKill, methodDelete}, req.method) {
		return
	}
	r, err := parseProcess(req.payload)
	if err != nil || r.execID != "" {
		return
	}
	if req.method == methodWait {
		c.asked(streamID, stream{waitFor: r.id})
	} else {
		c.endings.passes(req.method, r)
	}
}

func (c *conn) create(f frame, req request) (frame, error) {
	create, err := parseCreate(req.payload)
	if err != nil {
		return nil, &statusError{codeInvalidArgument, err}
	}
	start := time.Now()
	verdict, err := c.decideInTime(create)
	if err != nil {
		c.log.WithField("container", create.id).WithError(err).Error("container refused")
		return nil, err
	}
	c.log.WithFields(logrus.Fields{"container": create.id, "mode": verdict.mode, "mounts": len(verdict.rootfs),
		"took": time.Since(start).Round(time.Microsecond)}).Info("rootfs decided")
	out := f
	if !verdict.keep {
		payload := withRootfs(f.payload(), req, verdict.rootfs)
		if len(payload) > framePayloadMax {
			return nil, &statusError{codeResourceExhausted, fmt.Errorf("create request of %d bytes with its rootfs; ttrpc "+
				"takes at most %d", len(payload), framePayloadMax)}
		}
		out = newFrame(f.streamID(), frameRequest, f.flags(), payload)
	}
	c.asked(f.streamID(), stream{create: true})
	return out, nil
}

// decideInTime lets no hanging file system block the connection for ever.
func (c *conn) decideInTime(create createRequest) (decision, error) {
	type result struct {
		decision
		err error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			// The other containers of the pod live on this process's connections.
			if p := recover(); p != nil {
				r = result{err: fmt.Errorf("[internal error] %v\n%s", p, debug.Stack())}
			}
			done <- r
		}()
		r.decision, r.err = c.decide(create)
	}()
	select {
	case r := <-done:
		return r.decision, r.err
	case <-time.After(c.decideTimeout):
		return decision{}, &statusError{codeDeadlineExceeded, fmt.Errorf("manifest and volumes could not be read in %v: is the "+
			"container store's file system hanging?", c.decideTimeout)}
	}
}

func (c *conn) asked(id uint32, s stream) {
	c.asking.Lock()
	defer c.asking.Unlock()
	c.streams[id] = s
}

// answered returns what f is the answer to, if that matters.
func (c *conn) answered(f frame) stream {
	if f.kind() != frameResponse {
		return stream{}
	}
	c.asking.Lock()
	defer c.asking.Unlock()
	s := c.streams[f.streamID()]
	delete(c.streams, f.streamID())
	return s
}

// linger tells the client that the connection has ended. A socket that is closed with unread data resets the peer,
// which could take answers away that were sent before; so the client gets its end of file first.
func (c *conn) linger() {
	if err := c.client.CloseWrite(); err != nil {
		return
	}
	_ = c.client.SetReadDeadline(time.Now().Add(lingerTimeout))
	_, _ = io.Copy(io.Discard, c.client)
}

func oversized(f frame) error {
	return &statusError{codeResourceExhausted, fmt.Errorf("ttrpc message of %d bytes; at most %d are allowed",
		f.length(), framePayloadMax)}
}

// isClosed says whether an error is the ordinary end of a connection.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.EPIPE) ||
		errors.Is(err, unix.ECONNRESET)
}

// sameUser refuses clients of another user, should the socket's mode ever let one in.
func sameUser(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return credErr
	}
	if int(cred.Uid) != unix.Geteuid() {
		return fmt.Errorf("client of uid %d; only %d may connect", cred.Uid, unix.Geteuid())
	}
	return nil
}

// dial connects to a unix socket. A backlog that is full (EAGAIN) is no reason to give up at once.
func dial(path string) (*net.UnixConn, error) {
	deadline := time.Now().Add(dialTimeout)
	for {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err == nil || !errors.Is(err, unix.EAGAIN) || time.Now().After(deadline) {
			return c, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}
