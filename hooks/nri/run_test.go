package nri

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/net/multiplex"
	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/hooks/metrics"
	"github.com/crio-erofs/crio-erofs/hooks/nriconf"
)

// leavingRuntime goes away at the worst moment: it has registered the plugin, and configures it no more.
type leavingRuntime struct {
	api.RuntimeService
	registered chan *api.RegisterPluginRequest
}

func (r *leavingRuntime) RegisterPlugin(_ context.Context, req *api.RegisterPluginRequest) (*api.Empty, error) {
	r.registered <- req
	return &api.Empty{}, nil
}

// serve answers one connection, and closes it a moment after the registration.
func (r *leavingRuntime) serve(conn net.Conn) error {
	mux := multiplex.Multiplex(conn)
	defer mux.Close()
	l, err := mux.Listen(multiplex.RuntimeServiceConn)
	if err != nil {
		return err
	}
	s, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	api.RegisterRuntimeService(s, r)
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	time.Sleep(200 * time.Millisecond) // the answer has to go out first
	s.Close()
	<-done
	return nil
}

func TestRuntimeLeavesDuringHandshake(t *testing.T) {
	defer func(d time.Duration) { handshakeLimit = d }(handshakeLimit)
	handshakeLimit = 300 * time.Millisecond
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := &leavingRuntime{registered: make(chan *api.RegisterPluginRequest, 10)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if err := r.serve(conn); err != nil {
				t.Error(err)
			}
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- External{Socket: socket}.Run(ctx) }()
	for n := range 2 { // it comes again
		select {
		case req := <-r.registered:
			if req.PluginName != nriconf.PluginName || req.PluginIdx != nriconf.PluginIndex {
				t.Errorf("registered %v", req)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no registration %d within 10 s", n+1)
		}
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Run does not end with its context")
	}
}

func TestExternalRefusesIndex(t *testing.T) {
	err := External{Socket: filepath.Join(t.TempDir(), "s"), Index: "1"}.Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), `--idx: invalid plugin index "1"`) {
		t.Errorf("got %v", err)
	}
}

func TestSettings(t *testing.T) {
	defer logrus.SetLevel(logrus.GetLevel())
	for _, tt := range []struct{ config, want string }{
		{"", ""},
		{" \n", ""},
		{"{}", ""},
		{`{"log_level": "debug"}`, ""},
		{`{"log_level": "loud"}`, `not a valid logrus Level: "loud"`},
		{`{"loglevel": "debug"}`, `unknown field "loglevel"; valid is`},
		{`log_level = "debug"`, "invalid character"},
	} {
		logrus.SetLevel(logrus.InfoLevel)
		err := (&Plugin{}).apply(tt.config)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.config, err, tt.want)
		}
		if got := logrus.GetLevel() == logrus.DebugLevel; got != (tt.config == `{"log_level": "debug"}`) {
			t.Errorf("%s: level %v", tt.config, logrus.GetLevel())
		}
	}
}

// TestSettingsTakenOut: a plugin that outlives the runtime gets other settings from the next one.
func TestSettingsTakenOut(t *testing.T) {
	defer logrus.SetLevel(logrus.GetLevel())
	logrus.SetLevel(logrus.InfoLevel)
	p := &Plugin{Guard: "/own"}
	p.Configuration.Path = "/config.toml"
	for _, settings := range []string{`{"log_level": "debug", "guard": "", "config": "/other.toml"}`, "{}"} {
		if _, err := p.Configure(t.Context(), settings, "cri-o", "1"); err != nil || p.unusable != nil {
			t.Fatal(err, p.unusable)
		}
	}
	if p.Guard != "/own" || p.Configuration.Path != "/config.toml" || logrus.GetLevel() != logrus.InfoLevel {
		t.Errorf("guard %q, configuration %q, level %v", p.Guard, p.Configuration.Path, logrus.GetLevel())
	}
}

// TestMetricsMove: the next runtime's settings may have the metrics elsewhere, or nowhere, and a plugin that ends leaves
// no socket behind.
func TestMetricsMove(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return "unix:" + filepath.Join(dir, name) }
	p := &Plugin{Metrics: metrics.New("x")}
	for _, c := range []struct{ settings, want string }{
		{"{}", ""},
		{`{"metrics_addr": "` + at("a") + `"}`, "a"},
		{`{"metrics_addr": "` + at("a") + `"}`, "a"},
		{`{"metrics_addr": "` + at("b") + `"}`, "b"},
		{"{}", ""},
	} {
		if _, err := p.Configure(t.Context(), c.settings, "cri-o", "1"); err != nil || p.unusable != nil {
			t.Fatal(err, p.unusable)
		}
		if got := names(t, dir); got != c.want {
			t.Errorf("%s: served at %q, want %q", c.settings, got, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	p.initial.metrics, p.MetricsAddress = at("c"), at("c")
	go func() { done <- External{Plugin: p, Socket: filepath.Join(dir, "nobody")}.Run(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); names(t, dir) != "c" && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	if got := names(t, dir); got != "c" {
		t.Errorf("served at %q", got)
	}
	cancel()
	if err := <-done; err != nil || names(t, dir) != "" {
		t.Errorf("after the end: %q, %v", names(t, dir), err)
	}
}

// TestMetricsAddressTaken: somebody else has the address, and gives it up after a while.
func TestMetricsAddressTaken(t *testing.T) {
	defer func(before time.Duration) { retryMetrics = before }(retryMetrics)
	retryMetrics = 10 * time.Millisecond
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := other.Addr().String()
	p := &Plugin{Metrics: metrics.New("x")}
	if _, err := p.Configure(t.Context(), `{"metrics_addr": "`+address+`"}`, "cri-o", "1"); err != nil || p.unusable != nil {
		t.Fatal(err, p.unusable)
	}
	time.Sleep(5 * retryMetrics) // some tries fail
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	get := func() (code int, err error) {
		r, err := http.Get("http://" + address + metrics.Path)
		if err == nil {
			code, err = r.StatusCode, r.Body.Close()
		}
		return code, err
	}
	code, err := get()
	for deadline := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(deadline); code, err = get() {
		time.Sleep(5 * time.Millisecond)
	}
	if err != nil || code != http.StatusOK {
		t.Errorf("status %d, %v", code, err)
	}
	p.stopMetrics()
	time.Sleep(5 * retryMetrics)
	if code, err := get(); err == nil {
		t.Errorf("after the end: status %d", code)
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// The sample that is installed is one that is accepted.
func TestSampleSettings(t *testing.T) {
	defer logrus.SetLevel(logrus.GetLevel())
	b, err := os.ReadFile("../../contrib/nri/conf.d/10-crio-erofs.conf")
	if err != nil {
		t.Fatal(err)
	}
	if err := (&Plugin{}).apply(string(b)); err != nil {
		t.Error(err)
	}
}
