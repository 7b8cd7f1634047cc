package shim

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// Version is the version of the stand-in. Kata's that it follows is in VersionText.
const Version = "0.1.0"

// VersionText is what --version prints.
const VersionText = "stand-in for the Kata Containers containerd shim (tests only): id: io.containerd.kata.v2, " +
	"version: " + Version + ", follows runtime-rs 4.1.0"

// infoService is beside the Task service on the daemon's socket.
const infoService = "standin.InfoService"

func registerInfo(server *ttrpc.Server, s *service) {
	server.Register(infoService, map[string]ttrpc.Method{
		"GuestInfo": agentapi.Method(func(ctx context.Context, r *agentapi.GuestInfoRequest) (*agentapi.GuestInfo, error) {
			agent, err := s.agent()
			if err != nil {
				return nil, err
			}
			return agent.GuestInfo(ctx, r)
		}),
	})
}

// GuestInfo asks the guest of a running sandbox. A unique beginning of the sandbox's id is enough.
func GuestInfo(ctx context.Context, sandbox string, kernelLog int) (*agentapi.GuestInfo, error) {
	id, err := findSandbox(sandbox)
	if err != nil {
		return nil, err
	}
	socket, err := socketPath(id)
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("sandbox %s: its shim is gone: %w", id, err)
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	return agentapi.Call[agentapi.GuestInfo](ctx, client, infoService, "GuestInfo",
		&agentapi.GuestInfoRequest{KernelLog: kernelLog})
}

func findSandbox(prefix string) (string, error) {
	pids, err := filepath.Glob(filepath.Join(Root(), "*", "pid"))
	if err != nil {
		return "", err
	}
	var found []string
	for _, path := range pids {
		id := filepath.Base(filepath.Dir(path))
		if id == prefix {
			return id, nil
		}
		if prefix != "" && strings.HasPrefix(id, prefix) {
			found = append(found, id)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d sandboxes of the stand-in for Kata begin with %q in %s (%s names another directory)",
			len(found), prefix, Root(), EnvRoot)
	}
	return found[0], nil
}

// RuntimeInfo is what -info prints (kata-containers src/runtime-rs/crates/shim/src/bin/main.rs, show_info).
func RuntimeInfo() ([]byte, error) {
	return proto.Marshal(&types.RuntimeInfo{
		Name:        "io.containerd.kata.v2",
		Version:     &types.RuntimeVersion{Version: Version},
		Annotations: map[string]string{"containerd.io/runtime-allow-mounts": "mkdir/*,format/*,erofs"},
	})
}
