package metrics_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/crio-erofs/crio-erofs/driver/counters"
	"github.com/crio-erofs/crio-erofs/hooks"
	"github.com/crio-erofs/crio-erofs/hooks/metrics"
	"github.com/crio-erofs/crio-erofs/kata"
)

// filled has every metric there is.
func filled(t *testing.T) *metrics.Metrics {
	t.Helper()
	root := t.TempDir()
	home := filepath.Join(root, "erofs")
	volume := filepath.Join(home, "volumes", "a")
	if err := os.MkdirAll(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(volume, "layer.erofs"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := counters.Add(filepath.Join(home, counters.FileName), func(c *counters.Counters) {
		c.Layers = counters.Built{Made: 3, Reused: 2, Failed: 1, Bytes: 5 << 20, Took: 1500 * time.Millisecond}
	}); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(root, "config.toml")
	if err := os.WriteFile(config, []byte("enforce = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := metrics.New("1.2.3")
	m.Look(config, root)
	m.Connected(true)
	m.Answered("kata-erofs", kata.ModeImageVerity, time.Millisecond)
	m.Answered("", "", time.Millisecond)
	m.Refused("kata-erofs", hooks.ReasonManifest, time.Millisecond)
	return m
}

func TestValues(t *testing.T) {
	const want = `
# HELP crio_erofs_configuration_valid 1 if the configuration file can be used, 0 if containers of this project's handlers are refused because it cannot.
# TYPE crio_erofs_configuration_valid gauge
crio_erofs_configuration_valid 0
# HELP crio_erofs_containers_total Containers that CRI-O asked about, by the pod's runtime handler, the mode that was chosen, and what became of them: annotated, refused, or foreign (a handler that is not this project's).
# TYPE crio_erofs_containers_total counter
crio_erofs_containers_total{handler="default",mode="none",outcome="foreign"} 1
crio_erofs_containers_total{handler="kata-erofs",mode="image-verity",outcome="annotated"} 1
crio_erofs_containers_total{handler="kata-erofs",mode="none",outcome="refused"} 1
# HELP crio_erofs_refusals_total Containers that were refused, by the pod's runtime handler and the reason.
# TYPE crio_erofs_refusals_total counter
crio_erofs_refusals_total{handler="kata-erofs",reason="manifest"} 1
# HELP crio_erofs_store_volumes Volumes in the store.
# TYPE crio_erofs_store_volumes gauge
crio_erofs_store_volumes 1
# HELP crio_erofs_volumes_made_bytes_total Sizes of the volumes that the driver made, hash trees included.
# TYPE crio_erofs_volumes_made_bytes_total counter
crio_erofs_volumes_made_bytes_total{kind="image"} 0
crio_erofs_volumes_made_bytes_total{kind="layer"} 5.24288e+06
# HELP crio_erofs_volumes_made_seconds_total Time that making volumes took; of layers, with the time for which the pull kept the driver waiting.
# TYPE crio_erofs_volumes_made_seconds_total counter
crio_erofs_volumes_made_seconds_total{kind="image"} 0
crio_erofs_volumes_made_seconds_total{kind="layer"} 1.5
`
	if err := testutil.GatherAndCompare(filled(t).Registry(), strings.NewReader(want), "crio_erofs_configuration_valid",
		"crio_erofs_containers_total", "crio_erofs_refusals_total", "crio_erofs_store_volumes", "crio_erofs_volumes_made_bytes_total",
		"crio_erofs_volumes_made_seconds_total"); err != nil {
		t.Error(err)
	}
}

// TestLint has Prometheus's own rules for names and types judge all metrics.
func TestLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(filled(t).Registry())
	if err != nil || len(problems) > 0 {
		t.Errorf("%+v, %v", problems, err)
	}
}

// TestDocumented: docs/metrics.md names every metric of ours, and no other.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	families, err := filled(t).Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	known := 0
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "crio_erofs_") {
			continue
		}
		known++
		if !strings.Contains(string(text), "`"+f.GetName()+"`") {
			t.Errorf("docs/metrics.md lacks %s", f.GetName())
		}
	}
	if n := strings.Count(string(text), "\n| `crio_erofs_"); n != known {
		t.Errorf("docs/metrics.md has %d metrics, and there are %d", n, known)
	}
	for _, reason := range hooks.Reasons() {
		if !strings.Contains(string(text), "`"+string(reason)+"`") {
			t.Errorf("docs/metrics.md lacks the reason %s", reason)
		}
	}
}

// TestNothing: nil counts nothing, and where there is no store there is nothing of it.
func TestNothing(t *testing.T) {
	var none *metrics.Metrics
	none.Look("", "")
	none.Connected(true)
	none.Answered("a", "", 0)
	none.Refused("a", hooks.ReasonMode, 0)
	m := metrics.New("x")
	m.Look("", t.TempDir())
	if n, err := testutil.GatherAndCount(m.Registry(), "crio_erofs_store_volumes", "crio_erofs_volumes_made_total"); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestListen(t *testing.T) {
	m := filled(t)
	socket := filepath.Join(t.TempDir(), "s")
	for _, address := range []string{"127.0.0.1:0", "unix:" + socket} {
		l, err := m.Listen(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		network := "tcp"
		if strings.HasPrefix(address, "unix:") {
			network = "unix"
			if fi, err := os.Stat(socket); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", fi, err)
			}
			if other, err := m.Listen(t.Context(), address); err == nil || !strings.Contains(err.Error(), "another process listens") {
				t.Errorf("a second one: %+v, %v", other, err)
			}
		}
		client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial(network, l.Address())
		}}}
		resp, err := client.Get("http://hook" + metrics.Path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil || !strings.Contains(string(body), "\ncrio_erofs_runtime_connected 1\n") {
			t.Errorf("%s: %s, %v", address, body, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// TestStale: a dead process's socket gives way, anything else does not.
func TestStale(t *testing.T) {
	m := metrics.New("x")
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := m.Listen(t.Context(), "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"unix:" + path: "is not a socket", "unix:s": "is not absolute", "9090": "is not HOST:PORT", "": "is not HOST:PORT",
		"127.0.0.1:1x": "", "256.0.0.1:9090": "",
	} {
		if l, err := m.Listen(t.Context(), address); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v", address, l, err)
		}
	}
}
