package nri

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/hooks/nriconf"
)

const (
	// DefaultSocket is where CRI-O listens for external plugins.
	DefaultSocket = api.DefaultSocketPath

	// retryMin and retryMax bound the pause between two attempts to connect. A plugin that is away while a container
	// is created leaves it without annotations, so the pause stays short.
	retryMin = 50 * time.Millisecond
	retryMax = time.Second
)

// handshakeLimit bounds registration and configuration; the runtime itself gives up on them after 5 s and 2 s. Tests
// lower it.
var handshakeLimit = 10 * time.Second

// Preinstalled says whether the runtime started this process as a plugin, with a connection in a file descriptor.
func Preinstalled() bool {
	return os.Getenv(api.PluginSocketEnvVar) != ""
}

// errClosed is how a connection normally ends: the runtime stopped, or it dropped the plugin.
var errClosed = errors.New("the runtime closed the connection")

// RunPreinstalled serves, with p, the connection that the runtime handed over, until it ends or ctx does.
func RunPreinstalled(ctx context.Context, p *Plugin) error {
	defer p.stopMetrics()
	err := serve(ctx, p)
	if errors.Is(err, errClosed) {
		logrus.Info("the runtime closed the connection; ending")
		return nil
	}
	return err
}

// External is a plugin that connects to the runtime by itself. Empty fields stand for the package's constants.
type External struct {
	Plugin *Plugin
	Socket string
	Name   string
	Index  string
}

// Run keeps the plugin connected until ctx ends; it then returns nil. It returns an error only if name or index can
// never be accepted.
func (e External) Run(ctx context.Context) error {
	e.fill()
	if err := api.CheckPluginIndex(e.Index); err != nil {
		return fmt.Errorf("--idx: %w", err)
	}
	defer e.Plugin.stopMetrics()
	e.Plugin.serveMetrics() // also while there is no connection, which they tell
	log := logrus.WithField("socket", e.Socket)
	pause := retryMin
	waiting := false
	for ctx.Err() == nil {
		started, err := e.connect(ctx)
		switch {
		case ctx.Err() != nil:
		case started:
			log.WithError(err).Warn("connection to the runtime ended; connecting again")
			pause, waiting = retryMin, false
		case !waiting:
			log.WithError(err).Warn("no connection to the runtime; trying until there is one")
			waiting = true
		default:
			log.WithError(err).Debug("still no connection to the runtime")
		}
		if !sleep(ctx, pause) {
			break
		}
		pause = min(2*pause, retryMax)
	}
	return nil
}

func (e *External) fill() {
	if e.Plugin == nil {
		e.Plugin = &Plugin{}
	}
	if e.Socket == "" {
		e.Socket = DefaultSocket
	}
	if e.Name == "" {
		e.Name = nriconf.PluginName
	}
	if e.Index == "" {
		e.Index = nriconf.PluginIndex
	}
}

// connect serves one connection. started says whether the runtime accepted the plugin.
func (e *External) connect(ctx context.Context) (started bool, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", e.Socket)
	if err != nil {
		return false, err
	}
	// The stub closes it when it stops, but not when it never started.
	defer conn.Close()
	err = serve(ctx, e.Plugin, stub.WithConnection(conn), stub.WithPluginName(e.Name), stub.WithPluginIdx(e.Index))
	var h *handshakeError
	return !errors.As(err, &h), err
}

// handshakeError is why a connection ended before the runtime had accepted the plugin.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// serve registers the plugin over one connection and answers until the connection or ctx ends. An end by ctx is no
// error.
func serve(ctx context.Context, p *Plugin, opts ...stub.Option) error {
	closed := make(chan struct{})
	var once sync.Once
	// Without this option the stub ends the process when the connection does.
	opts = append(opts, stub.WithOnClose(func() { once.Do(func() { close(closed) }) }))
	s, err := stub.New(p, opts...)
	if err != nil {
		return &handshakeError{err}
	}
	if err := start(ctx, s); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return &handshakeError{err}
	}
	defer p.Metrics.Connected(false)
	select {
	case <-closed:
		return errClosed
	case <-ctx.Done():
		s.Stop()
		return nil
	}
}

// start waits for registration and configuration, but not for ever: the stub (v0.9.0, Start) would, if the runtime
// went away between the two. What it leaves behind then is one goroutine.
func start(ctx context.Context, s stub.Stub) error {
	// Not ctx: the stub's server would drop a request that is being answered the moment ctx ends.
	done := make(chan error, 1)
	go func() { done <- s.Start(context.WithoutCancel(ctx)) }()
	limit := time.NewTimer(handshakeLimit)
	defer limit.Stop()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-limit.C:
		return fmt.Errorf("the runtime did not register and configure the plugin within %v", handshakeLimit)
	}
}

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
