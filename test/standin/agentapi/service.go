package agentapi

import (
	"context"

	"github.com/containerd/ttrpc"
)

// ServiceName is the agent's ttrpc service.
const ServiceName = "standin.AgentService"

// Agent is the service in the guest.
type Agent interface {
	Check(context.Context, *Empty) (*GuestDetails, error)
	CreateSandbox(context.Context, *CreateSandboxRequest) (*Empty, error)
	CreateContainer(context.Context, *CreateContainerRequest) (*Empty, error)
	StartContainer(context.Context, *ContainerRequest) (*Empty, error)
	RemoveContainer(context.Context, *ContainerRequest) (*Empty, error)
	ExecProcess(context.Context, *ExecProcessRequest) (*Empty, error)
	RemoveProcess(context.Context, *ProcessRequest) (*Empty, error)
	SignalProcess(context.Context, *SignalProcessRequest) (*Empty, error)
	WaitProcess(context.Context, *ProcessRequest) (*WaitProcessResponse, error)
	WriteStdin(context.Context, *WriteStreamRequest) (*Empty, error)
	CloseStdin(context.Context, *ProcessRequest) (*Empty, error)
	ReadStdout(context.Context, *ReadStreamRequest) (*ReadStreamResponse, error)
	ReadStderr(context.Context, *ReadStreamRequest) (*ReadStreamResponse, error)
	TtyWinResize(context.Context, *TtyWinResizeRequest) (*Empty, error)
	CopyFile(context.Context, *CopyFileRequest) (*Empty, error)
	Pids(context.Context, *ContainerRequest) (*PidsResponse, error)
	Stats(context.Context, *ContainerRequest) (*StatsResponse, error)
	PauseContainer(context.Context, *ContainerRequest) (*Empty, error)
	ResumeContainer(context.Context, *ContainerRequest) (*Empty, error)
	GetOOMEvent(context.Context, *Empty) (*OOMEvent, error)
	GuestInfo(context.Context, *GuestInfoRequest) (*GuestInfo, error)
}

// Register makes a ttrpc server answer for an agent.
func Register(s *ttrpc.Server, a Agent) {
	s.Register(ServiceName, map[string]ttrpc.Method{
		"Check":           Method(a.Check),
		"CreateSandbox":   Method(a.CreateSandbox),
		"CreateContainer": Method(a.CreateContainer),
		"StartContainer":  Method(a.StartContainer),
		"RemoveContainer": Method(a.RemoveContainer),
		"ExecProcess":     Method(a.ExecProcess),
		"RemoveProcess":   Method(a.RemoveProcess),
		"SignalProcess":   Method(a.SignalProcess),
		"WaitProcess":     Method(a.WaitProcess),
		"WriteStdin":      Method(a.WriteStdin),
		"CloseStdin":      Method(a.CloseStdin),
		"ReadStdout":      Method(a.ReadStdout),
		"ReadStderr":      Method(a.ReadStderr),
		"TtyWinResize":    Method(a.TtyWinResize),
		"CopyFile":        Method(a.CopyFile),
		"Pids":            Method(a.Pids),
		"Stats":           Method(a.Stats),
		"PauseContainer":  Method(a.PauseContainer),
		"ResumeContainer": Method(a.ResumeContainer),
		"GetOOMEvent":     Method(a.GetOOMEvent),
		"GuestInfo":       Method(a.GuestInfo),
	})
}

// Client calls an agent. It implements Agent.
type Client struct{ c *ttrpc.Client }

var _ Agent = (*Client)(nil)

// NewClient returns an agent at the other end of a ttrpc connection.
func NewClient(c *ttrpc.Client) *Client { return &Client{c} }

// Check answers as soon as the agent runs.
func (a *Client) Check(ctx context.Context, r *Empty) (*GuestDetails, error) {
	return Call[GuestDetails](ctx, a.c, ServiceName, "Check", r)
}

// CreateSandbox prepares the guest for a pod.
func (a *Client) CreateSandbox(ctx context.Context, r *CreateSandboxRequest) (*Empty, error) {
	return Call[Empty](ctx, a.c, ServiceName, "CreateSandbox", r)
}

// CreateContainer mounts the storages and prepares the first process.
func (a *Client) CreateContainer(ctx context.Context, r *CreateContainerRequest) (*Empty, error) {
	return Call[Empty](ctx, a.c, ServiceName, "CreateContainer", r)
}

// StartContainer lets the first process go.
func (a *Client) StartContainer(ctx context.Context, r *ContainerRequest) (*Empty, error) {
	return Call[Empty](ctx, a.c, ServiceName, "StartContainer", r)
}

// RemoveContainer kills what is left of a container and unmounts its storages.
func (a *Client) RemoveContainer(ctx context.Context, r *ContainerRequest) (*Empty, error) {
	return Call[Empty](ctx, a.c, ServiceName, "RemoveContainer", r)
}

// ExecProcess starts another process in a container.
func (a *Client) ExecProcess(ctx context.Context, r *ExecProcessRequest) (*Empty, error) {
	return Call[Empty](ctx, a.c, ServiceName, "ExecProcess", r)
}

// RemoveProcess forgets a process that ExecProcess started.
func (a *Client) RemoveProcess(ctx context.Context, r *ProcessRequest) (*Empty, error) {
	return Call[Empty](ctx, a.c, ServiceName, "RemoveProcess", r)
}

// SignalProcess sends a signal.
func (a *Client) SignalProcess(ctx context.Context, r *SignalProcessRequest) (*Empty, error) {
	return Call[Empty](ctx, a.c, ServiceName, "SignalProcess", r)
}

// WaitProcess answers when the process has ended.
func (a *Client) WaitProcess(ctx context.Context, r *ProcessRequest) (*WaitProcessResponse, error) {
	return Call[WaitProcessResponse](ctx, a.c, ServiceName, "WaitProcess", r)
}

// WriteStdin writes to a process's standard input.
func (a *Client) WriteStdin(ctx context.Context, r *WriteStreamRequest) (*Empty, error) {
	return Call[Empty](ctx, a.c, ServiceName, "WriteStdin", r)
}

// CloseStdin ends a process's standard input.
func (a *Client) CloseStdin(ctx context.Context, r *ProcessRequest) (*Empty, error) {
	return Call[Empty](ctx, a.c, ServiceName, "CloseStdin", r)
}

// ReadStdout answers when there is output.
func (a *Client) ReadStdout(ctx context.Context, r *ReadStreamRequest) (*ReadStreamResponse, error) {
	return Call[ReadStreamResponse](ctx, a.c, ServiceName, "ReadStdout", r)
}

// ReadStderr answers when there is output.
func (a *Client) ReadStderr(ctx context.Context, r *ReadStreamRequest) (*ReadStreamResponse, error) {
	return Call[ReadStreamResponse](ctx, a.c, ServiceName, "ReadStderr", r)
}

// TtyWinResize sets the size of a terminal.
func (a *Client) TtyWinResize(ctx context.Context, r *TtyWinResizeRequest) (*Empty, error) {
	return Call[Empty](ctx, a.c, ServiceName, "TtyWinResize", r)
}

// CopyFile writes to a file of the guest.
func (a *Client) CopyFile(ctx context.Context, r *CopyFileRequest) (*Empty, error) {
	return Call[Empty](ctx, a.c, ServiceName, "CopyFile", r)
}

// Pids lists the processes of a container.
func (a *Client) Pids(ctx context.Context, r *ContainerRequest) (*PidsResponse, error) {
	return Call[PidsResponse](ctx, a.c, ServiceName, "Pids", r)
}

// Stats reads a container's cgroup.
func (a *Client) Stats(ctx context.Context, r *ContainerRequest) (*StatsResponse, error) {
	return Call[StatsResponse](ctx, a.c, ServiceName, "Stats", r)
}

// PauseContainer freezes a container's processes.
func (a *Client) PauseContainer(ctx context.Context, r *ContainerRequest) (*Empty, error) {
	return Call[Empty](ctx, a.c, ServiceName, "PauseContainer", r)
}

// ResumeContainer thaws a container's processes.
func (a *Client) ResumeContainer(ctx context.Context, r *ContainerRequest) (*Empty, error) {
	return Call[Empty](ctx, a.c, ServiceName, "ResumeContainer", r)
}

// GetOOMEvent answers when a process was killed for want of memory.
func (a *Client) GetOOMEvent(ctx context.Context, r *Empty) (*OOMEvent, error) {
	return Call[OOMEvent](ctx, a.c, ServiceName, "GetOOMEvent", r)
}

// GuestInfo reports what the guest has mounted.
func (a *Client) GuestInfo(ctx context.Context, r *GuestInfoRequest) (*GuestInfo, error) {
	return Call[GuestInfo](ctx, a.c, ServiceName, "GuestInfo", r)
}
