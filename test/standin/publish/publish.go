// Package publish sends a shim's events to its engine, as containerd's publisher and Kata's shims do.
package publish

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/containerd/containerd/api/events"
	service "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Topics of events (containerd runtime/events.go).
const (
	TopicOOM  = "/tasks/oom"
	TopicExit = "/tasks/exit"
)

// Address returns the socket that the engine gave, "" if it gave none.
func Address() string { return os.Getenv("TTRPC_ADDRESS") }

// OOM reports that a container was killed for want of memory.
func OOM(ctx context.Context, address, container string) error {
	return Event(ctx, address, TopicOOM, &events.TaskOOM{ContainerID: container})
}

// Event sends one event, on a connection of its own.
func Event(ctx context.Context, address, topic string, event any) error {
	message, err := typeurl.MarshalAnyToProto(event)
	if err != nil {
		return err
	}
	conn, err := net.Dial("unix", address)
	if err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	_, err = service.NewEventsClient(client).Forward(ctx, &service.ForwardRequest{Envelope: &types.Envelope{
		Timestamp: timestamppb.Now(), Namespace: "default", Topic: topic, Event: message,
	}})
	if err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	return nil
}
