package shim

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// code is a gRPC status code (google.golang.org/grpc/codes). CRI-O maps it with errdefs.FromGRPC.
type code int

const (
	codeInvalidArgument    code = 3
	codeDeadlineExceeded   code = 4
	codeResourceExhausted  code = 8
	codeFailedPrecondition code = 9
	codeUnimplemented      code = 12
	codeUnavailable        code = 14
)

// statusError is an error for the client, with the code it is to get.
type statusError struct {
	code code
	err  error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// statusFrame returns the response that ends a stream with an error: Response{status: {code, message}} of ttrpc's
// request.proto and google/rpc/status.proto.
func statusFrame(streamID uint32, err error) frame {
	c := codeFailedPrecondition
	var se *statusError
	if errors.As(err, &se) {
		c = se.code
	}
	status := protowire.AppendTag(nil, 1, protowire.VarintType)
	status = protowire.AppendVarint(status, uint64(c))
	status = appendBytes(status, 2, []byte("crio-erofs: "+err.Error()))
	return newFrame(streamID, frameResponse, 0, appendBytes(nil, 1, status))
}
