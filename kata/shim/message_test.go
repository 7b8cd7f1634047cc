package shim

import (
	"bytes"
	"testing"

	eventsapi "github.com/containerd/containerd/api/events"
	task "github.com/containerd/containerd/api/runtime/task/v2"
	eventsservice "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/crio-erofs/crio-erofs/kata"
)

// testCreate is a ttrpc request for a create as a client's library makes it, with fields that nobody knows yet in both
// messages.
func testCreate(t testing.TB) (wire []byte, create *task.CreateTaskRequest, req *ttrpc.Request) {
	t.Helper()
	create = &task.CreateTaskRequest{
		ID: "ctr", Bundle: "/run/b", Terminal: true, Stdin: "/i", Stdout: "/o", Stderr: "/e",
		Rootfs:  []*types.Mount{{Type: "old", Source: "/old", Target: "/t", Options: []string{"a", "b"}}},
		Options: &anypb.Any{TypeUrl: "runtimeoptions.v1.Options", Value: []byte("\x12\x09/kata.cfg")},
	}
	unknown := appendBytes(nil, 99, []byte("from the future"))
	create.ProtoReflect().SetUnknown(unknown)
	payload, err := proto.Marshal(create)
	if err != nil {
		t.Fatal(err)
	}
	req = &ttrpc.Request{Service: taskServiceV2, Method: methodCreate, Payload: payload, TimeoutNano: 7,
		Metadata: []*ttrpc.KeyValue{{Key: "containerd-namespace-ttrpc", Value: "default"}}}
	req.ProtoReflect().SetUnknown(unknown)
	if wire, err = proto.Marshal(req); err != nil {
		t.Fatal(err)
	}
	return wire, create, req
}

func TestRootfsIsTheOnlyFieldThatChanges(t *testing.T) {
	wire, create, req := testCreate(t)
	r, err := parseRequest(wire)
	if err != nil || !r.isCreate() {
		t.Fatalf("%+v, %v: want a create", r, err)
	}
	c, err := parseCreate(r.payload)
	if err != nil {
		t.Fatal(err)
	}
	if c.id != "ctr" || c.bundle != "/run/b" || len(c.rootfs) != 1 || c.rootfs[0].Options[1] != "b" ||
		c.configPath != "/kata.cfg" {
		t.Errorf("read %+v", c)
	}
	out := withRootfs(wire, r, []kata.Mount{
		{Type: "erofs", Source: "/v", Options: []string{"ro", "loop"}}, {Type: "overlay", Source: "overlay"},
	})

	create.Rootfs = []*types.Mount{
		{Type: "erofs", Source: "/v", Options: []string{"ro", "loop"}}, {Type: "overlay", Source: "overlay"},
	}
	gotReq, gotCreate := &ttrpc.Request{}, &task.CreateTaskRequest{}
	if err := proto.Unmarshal(out, gotReq); err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(gotReq.Payload, gotCreate); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(gotCreate, create) {
		t.Errorf("create is\n%v, want\n%v", gotCreate, create)
	}
	req.Payload, gotReq.Payload = nil, nil
	if !proto.Equal(gotReq, req) {
		t.Errorf("request is\n%v, want\n%v", gotReq, req)
	}
}

func TestNotACreate(t *testing.T) {
	for _, r := range []request{
		{service: taskServiceV2, method: "Start"},
		{service: "containerd.task.v2.task", method: methodCreate},
		{service: "containerd.runtime.sandbox.v1.Sandbox", method: methodCreate},
		{},
	} {
		if r.isCreate() {
			t.Errorf("%+v is taken for a create", r)
		}
	}
	if r := (request{service: taskServiceV3, method: methodCreate}); !r.isCreate() {
		t.Error("a create of the API's version 3 gets past")
	}
}

func TestStatusFrameIsReadByClients(t *testing.T) {
	f := statusFrame(9, &statusError{codeResourceExhausted, bytes.ErrTooLarge})
	var resp ttrpc.Response
	if err := proto.Unmarshal(f.payload(), &resp); err != nil {
		t.Fatal(err)
	}
	if f.streamID() != 9 || f.kind() != frameResponse || resp.Status.Code != 8 ||
		resp.Status.Message != "crio-erofs: "+bytes.ErrTooLarge.Error() {
		t.Errorf("stream %d, type %d: %v", f.streamID(), f.kind(), &resp)
	}
}

// FuzzCreate makes sure that what this package understands of a request is what protobuf's own decoder does, and that
// it understands nothing that protobuf refuses.
func FuzzCreate(f *testing.F) {
	wire, _, _ := testCreate(f)
	f.Add(wire)
	f.Add(appendBytes(wire, requestMethod, []byte("Start")))
	f.Add(protowire.AppendVarint(protowire.AppendTag(nil, requestService, protowire.VarintType), 1))
	f.Add(wire[:len(wire)-3])
	f.Fuzz(func(t *testing.T, wire []byte) {
		got, err := parseRequest(wire)
		var want ttrpc.Request
		if proto.Unmarshal(wire, &want) != nil || err != nil {
			return // one of them refuses: the client gets an error
		}
		if got.service != want.Service || got.method != want.Method || !bytes.Equal(got.payload, want.Payload) {
			t.Fatalf("read %+v, protobuf reads %v", got, &want)
		}
		create, err := parseCreate(got.payload)
		var wantCreate task.CreateTaskRequest
		if proto.Unmarshal(got.payload, &wantCreate) != nil || err != nil {
			return
		}
		if create.id != wantCreate.ID || create.bundle != wantCreate.Bundle ||
			len(create.rootfs) != len(wantCreate.Rootfs) {
			t.Fatalf("read %+v, protobuf reads %v", create, &wantCreate)
		}
		out := withRootfs(wire, got, nil)
		again, err := parseRequest(out)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if c, err := parseCreate(again.payload); err != nil || len(c.rootfs) != 0 {
			t.Fatalf("rootfs was not replaced: %+v, %v", c, err)
		}
	})
}

// FuzzTaskMessages: what the proxy reads of requests, answers and events is what protobuf reads.
func FuzzTaskMessages(f *testing.F) {
	wait, _ := proto.Marshal(&task.WaitResponse{ExitStatus: 137})
	answer, _ := proto.Marshal(&ttrpc.Response{Payload: wait})
	kill, _ := proto.Marshal(&task.KillRequest{ID: "a", ExecID: "b", Signal: 9, All: true})
	oom, _ := proto.Marshal(&eventsapi.TaskOOM{ContainerID: "a"})
	forward, _ := proto.Marshal(&eventsservice.ForwardRequest{Envelope: &types.Envelope{
		Topic: topicOOM, Event: &anypb.Any{TypeUrl: "containerd.events.TaskOOM", Value: oom}}})
	event, _ := proto.Marshal(&ttrpc.Request{Service: eventsService, Method: methodForward, Payload: forward})
	for _, seed := range [][]byte{wait, answer, kill, oom, event} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		if _, ok := exitStatus(newFrame(1, frameResponse, 0, wire)); ok {
			var r ttrpc.Response
			if err := proto.Unmarshal(wire, &r); err == nil && r.Status.GetCode() != 0 {
				t.Errorf("an error %v is read as an answer", r.Status)
			}
		}
		var k task.KillRequest
		if r, err := parseProcess(wire); err == nil && proto.Unmarshal(wire, &k) == nil &&
			(r.id != k.ID || r.execID != k.ExecID || uint32(r.signal) != k.Signal) {
			t.Errorf("read %+v, protobuf reads %v", r, &k)
		}
		if id, err := oomEvent(wire); err == nil && (len(id) > maxContainerID || !bytes.Contains(wire, []byte(id))) {
			t.Errorf("read %q out of an event", id)
		}
	})
}
