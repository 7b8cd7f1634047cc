package shim

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// A runtime tells its engine of out-of-memory kills by events, published to the ttrpc socket that TTRPC_ADDRESS names
// (kata-containers 4.1.0, src/runtime-rs/crates/service/src/event.rs). CRI-O gives an empty address and waits for a
// file instead, which runtime-rs does not write: so the pod's proxy listens to the events. The publisher takes the
// address as a path, without a scheme, and connects when the real shim starts; it reconnects when the proxy was
// replaced. (runtime-rs before 3.4 would run CRI-O's own program with "publish" for each event, which ends at once as
// CRI-O has no such flag.)
const (
	envEvents    = "TTRPC_ADDRESS"
	eventsSuffix = ".ev"

	// Names and field numbers of containerd api v1.9.0: services/ttrpc/events/v1/events.proto (ForwardRequest),
	// types/event.proto (Envelope), events/task.proto (TaskOOM).
	eventsService   = "containerd.services.events.ttrpc.v1.Events"
	methodForward   = "Forward"
	topicOOM        = "/tasks/oom"
	forwardEnvelope = 1
	envelopeTopic   = 3
	envelopeEvent   = 4
	oomContainerID  = 1
	maxContainerID  = 256 // CRI-O's have 64

	// eventsStartTime is more than it takes from a socket's making to its first listener, or a new one.
	eventsStartTime = 10 * time.Minute
)

// eventsOffer is a socket for the events of a real shim that does not run yet, so that nothing that would name the
// pod is known but the container's id.
type eventsOffer struct {
	path     string
	listener *net.UnixListener // nil if it is somebody else's
}

// offerEvents makes a socket for the events of the real shim that is to be started for a container. If the environment
// names one already, or the pod's proxy has it, there is nothing to make.
func offerEvents(run, id string) (*eventsOffer, error) {
	if os.Getenv(envEvents) != "" {
		return &eventsOffer{}, nil
	}
	sum := sha256.Sum256([]byte(id))
	o := &eventsOffer{path: filepath.Join(run, hex.EncodeToString(sum[:12])+eventsSuffix)}
	if len(o.path) > maxSocketPath {
		return nil, fmt.Errorf("socket path %s would be longer than %d bytes: set %s to a shorter directory", o.path,
			maxSocketPath, envRunDir)
	}
	if err := os.MkdirAll(run, 0o700); err != nil {
		return nil, err
	}
	if realAlive(o.path) {
		return o, nil
	}
	var err error
	o.listener, err = listenAnew(o.path)
	return o, err
}

// environment is what the real shim's start needs in addition to ours.
func (o *eventsOffer) environment() []string {
	if o.path == "" {
		return nil
	}
	return []string{envEvents + "=" + o.path}
}

// close keeps the socket for the proxy that has it now.
func (o *eventsOffer) close() {
	if o.listener != nil {
		o.listener.Close()
	}
}

// discard removes a socket that nobody needs: no real shim was started.
func (o *eventsOffer) discard() {
	if o.listener != nil {
		o.listener.Close()
		_ = os.Remove(o.path)
	}
}

// events serves containerd's events service, as far as a publisher needs it.
type events struct {
	*endings
}

// serve answers one publisher until it hangs up.
func (e events) serve(c *net.UnixConn) {
	defer c.Close()
	if err := sameUser(c); err != nil {
		e.complain(fmt.Errorf("connection refused: %w", err))
		return
	}
	for r := newFrameReader(c); ; {
		f, err := r.next()
		if err == nil && f.kind() == frameRequest {
			_, err = c.Write(e.answer(f))
		}
		if err != nil {
			if !isClosed(err) {
				e.complain(err)
			}
			return
		}
	}
}

// answer does what an event asks for. A publisher repeats an event that was answered with an error.
func (e events) answer(f frame) frame {
	if f.oversized() {
		return statusFrame(f.streamID(), oversized(f))
	}
	id, err := oomEvent(f.payload())
	if err == nil && id != "" {
		err = e.oomKill(id)
	}
	if err != nil {
		e.complain(err)
		return statusFrame(f.streamID(), err)
	}
	return newFrame(f.streamID(), frameResponse, 0, nil) // Response{}: google.protobuf.Empty has no bytes
}

// oomEvent returns the container that a request to the events service reports as killed; "" for any other event.
func oomEvent(msg []byte) (string, error) {
	req, err := parseRequest(msg)
	if err != nil {
		return "", &statusError{codeInvalidArgument, err}
	}
	if req.service != eventsService || req.method != methodForward {
		return "", &statusError{codeUnimplemented, fmt.Errorf("%s.%s is not served here", req.service, req.method)}
	}
	var envelope, topic, event, value, id []byte
	for _, level := range []struct {
		from *[]byte
		set  map[protowire.Number]*[]byte
	}{
		{&req.payload, map[protowire.Number]*[]byte{forwardEnvelope: &envelope}},
		{&envelope, map[protowire.Number]*[]byte{envelopeTopic: &topic, envelopeEvent: &event}},
	} {
		if err := eachField(*level.from, setFields(level.set)); err != nil {
			return "", &statusError{codeInvalidArgument, fmt.Errorf("not a ForwardRequest: %w", err)}
		}
	}
	if string(topic) != topicOOM {
		return "", nil
	}
	err = eachField(event, setFields(map[protowire.Number]*[]byte{anyValue: &value}))
	if err == nil {
		err = eachField(value, setFields(map[protowire.Number]*[]byte{oomContainerID: &id}))
	}
	if err == nil && (len(id) == 0 || len(id) > maxContainerID) {
		err = errors.New("no container's id")
	}
	if err != nil {
		return "", &statusError{codeInvalidArgument, fmt.Errorf("not a TaskOOM: %w", err)}
	}
	return string(id), nil
}
