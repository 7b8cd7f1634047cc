package metrics

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/hooks/nriconf"
)

const (
	// Path is where the metrics are, as everywhere.
	Path = "/metrics"

	// maxScrapes bounds how many scrapes are answered at a time. The hook has something better to do.
	maxScrapes = 2

	headerTimeout = 5 * time.Second
	answerTimeout = 10 * time.Second
)

// Listener serves metrics until it is closed.
type Listener struct {
	server   *http.Server
	listener net.Listener
}

// Listen serves the metrics at an address: HOST:PORT, or unix:/PATH, a socket that only root can connect to.
func (m *Metrics) Listen(ctx context.Context, address string) (*Listener, error) {
	network, where, err := nriconf.SplitAddress(address)
	if err != nil {
		return nil, err
	}
	listener, err := listen(ctx, network, where)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+Path, promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: logrus.StandardLogger(), ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes,
	}))
	l := &Listener{listener: listener, server: &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout, WriteTimeout: answerTimeout, IdleTimeout: time.Minute,
	}}
	go func() {
		if err := l.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			logrus.WithError(err).WithField("address", address).Error("metrics are no longer served")
		}
	}()
	return l, nil
}

// Address returns where the listener listens.
func (l *Listener) Address() string { return l.listener.Addr().String() }

// Close ends it, and removes a Unix socket.
func (l *Listener) Close() error {
	err := l.server.Close()
	if closeErr := l.listener.Close(); !errors.Is(closeErr, net.ErrClosed) { // the server may not have begun
		err = errors.Join(err, closeErr)
	}
	return err
}

func listen(ctx context.Context, network, where string) (net.Listener, error) {
	var config net.ListenConfig
	if network != "unix" {
		return config.Listen(ctx, network, where)
	}
	if err := removeStale(where); err != nil {
		return nil, err
	}
	listener, err := config.Listen(ctx, network, where)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(where, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// removeStale removes a socket that a dead process has left.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there already, and is not a socket", path)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		return errors.Join(fmt.Errorf("%s: another process listens there", path), conn.Close())
	}
	return os.Remove(path)
}
