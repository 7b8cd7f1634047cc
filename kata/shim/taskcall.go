package shim

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Methods of the task service that say how a container ends.
const (
	methodWait   = "Wait"
	methodKill   = "Kill"
	methodDelete = "Delete"
)

// Field numbers of WaitRequest, KillRequest and DeleteRequest, of WaitResponse and of StateResponse (containerd api
// v1.9.0, runtime/task/v2/shim.proto), and of ttrpc's Response (ttrpc v1.2.7, request.proto).
const (
	processID     = 1
	processExecID = 2
	killSignal    = 3

	waitExitStatus = 1
	stateBundle    = 2

	responseStatus  = 1
	responsePayload = 2
	statusMessage   = 2 // of google.rpc.Status
)

// processRequest is what requests for a process have in common.
type processRequest struct {
	id, execID string
	signal     uint64 // of a KillRequest
}

// parseProcess reads a WaitRequest, KillRequest or DeleteRequest.
func parseProcess(msg []byte) (processRequest, error) {
	var id, execID []byte
	err := eachField(msg, setFields(map[protowire.Number]*[]byte{processID: &id, processExecID: &execID}))
	if err != nil {
		return processRequest{}, fmt.Errorf("not a request for a process: %w", err)
	}
	signal, err := varint(msg, killSignal)
	return processRequest{string(id), string(execID), signal}, err
}

// varint returns the last value of a field, as protobuf says, 0 if there is none.
func varint(msg []byte, field protowire.Number) (v uint64, err error) {
	err = eachField(msg, func(num protowire.Number, _, whole []byte) error {
		if num != field {
			return nil
		}
		_, typ, n := protowire.ConsumeTag(whole)
		if typ != protowire.VarintType {
			return errWireType
		}
		v, _ = protowire.ConsumeVarint(whole[n:])
		return nil
	})
	return v, err
}

// parseResponse returns the answer of a ttrpc response, or the error that it has.
func parseResponse(msg []byte) ([]byte, error) {
	var status, payload, message []byte
	err := eachField(msg, setFields(map[protowire.Number]*[]byte{responseStatus: &status, responsePayload: &payload}))
	if err != nil {
		return nil, fmt.Errorf("not a ttrpc response: %w", err)
	}
	code, err := varint(status, 1)
	if err == nil && code != 0 {
		err = eachField(status, setFields(map[protowire.Number]*[]byte{statusMessage: &message}))
		return nil, errors.Join(errors.New(string(message)), err)
	}
	return payload, err
}

// exitStatus returns the status in the answer to a Wait, if it has one.
func exitStatus(f frame) (uint64, bool) {
	payload, err := parseResponse(f.payload())
	if err != nil {
		return 0, false
	}
	status, err := varint(payload, waitExitStatus)
	return status, err == nil
}

// taskFrame is a request of our own to a task service, in CRI-O's namespace.
func taskFrame(method string, payload []byte) frame {
	meta := appendBytes(nil, 1, []byte("containerd-namespace-ttrpc"))
	meta = appendBytes(meta, 2, []byte("default"))

	req := appendBytes(nil, requestService, []byte(taskServiceV2))
	req = appendBytes(req, requestMethod, []byte(method))
	req = appendBytes(req, requestPayload, payload)
	req = appendBytes(req, requestMeta, meta)
	return newFrame(1, frameRequest, 0, req)
}

// shutdownFrame asks a task service to exit: ShutdownRequest{id: 1, now: 2} of the task API.
func shutdownFrame(id string) frame {
	payload := appendBytes(nil, processID, []byte(id))
	payload = protowire.AppendTag(payload, 2, protowire.VarintType)
	return taskFrame("Shutdown", protowire.AppendVarint(payload, 1))
}

// callReal sends a request to a real shim, on a connection of its own, and returns the answer.
func callReal(ctx context.Context, realPath string, request frame) ([]byte, error) {
	c, err := dial(realPath)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	f, err := newFrameReader(c).next()
	if err != nil {
		return nil, err
	}
	if f.oversized() {
		return nil, oversized(f)
	}
	return parseResponse(f.payload())
}
