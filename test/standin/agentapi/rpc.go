package agentapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Call invokes a method of a service whose methods were made by Method.
func Call[Resp any](ctx context.Context, c *ttrpc.Client, service, method string, req any) (*Resp, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("%s: request: %w", method, err)
	}
	var answer wrapperspb.BytesValue
	if err := c.Call(ctx, service, method, wrapperspb.Bytes(body), &answer); err != nil {
		return nil, native(err)
	}
	resp := new(Resp)
	if err := json.Unmarshal(answer.Value, resp); err != nil {
		return nil, fmt.Errorf("%s: response: %w", method, err)
	}
	return resp, nil
}

// native turns a status into what the other side returned, without words about the transport.
func native(err error) error {
	st, ok := status.FromError(err)
	switch {
	case !ok:
		return err
	case st.Code() == codes.Unknown:
		return errors.New(st.Message())
	}
	return errgrpc.ToNative(err)
}

// Method makes a ttrpc method of a function.
func Method[Req, Resp any](f func(context.Context, *Req) (*Resp, error)) ttrpc.Method {
	return func(ctx context.Context, unmarshal func(any) error) (any, error) {
		var body wrapperspb.BytesValue
		if err := unmarshal(&body); err != nil {
			return nil, err
		}
		req := new(Req)
		if err := json.Unmarshal(body.Value, req); err != nil {
			return nil, fmt.Errorf("request: %w", err)
		}
		resp, err := f(ctx, req)
		if err != nil {
			return nil, errgrpc.ToGRPC(err) // keeps errdefs's kinds across the connection
		}
		answer, err := json.Marshal(resp)
		if err != nil {
			return nil, fmt.Errorf("response: %w", err)
		}
		return wrapperspb.Bytes(answer), nil
	}
}
