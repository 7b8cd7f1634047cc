package crio_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"

	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/images"
)

// scrape reads the plugin's metrics as Prometheus does.
func scrape(t *testing.T, server *crio.Server) map[string]*dto.MetricFamily {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", server.MetricsSocket())
		},
	}}
	resp, err := client.Get("http://hook/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v: %s", resp.Status, err, &body)
	}
	problems, err := promlint.New(bytes.NewReader(body.Bytes())).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%+v, %v", problems, err)
	}
	var p expfmt.TextParser
	return must[map[string]*dto.MetricFamily](t)(p.TextToMetricFamilies(&body))
}

// value adds up a metric's values that have these labels, name and value in turn.
func value(families map[string]*dto.MetricFamily, name string, labels ...string) (sum float64) {
	for _, m := range families[name].GetMetric() {
		has := map[string]string{}
		for _, l := range m.GetLabel() {
			has[l.GetName()] = l.GetValue()
		}
		matches := true
		for i := 0; i < len(labels); i += 2 {
			matches = matches && has[labels[i]] == labels[i+1]
		}
		if matches {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// TestMetrics pulls, runs and refuses, and looks at what is counted: what CRI-O's process builds, too.
func TestMetrics(t *testing.T) {
	if *storageDriver != "" {
		t.Skip("there are no volumes")
	}
	server := start(t)
	ctx := timeout(t)
	check := func(want float64, name string, labels ...string) {
		t.Helper()
		if got := value(scrape(t, server), name, labels...); got != want {
			t.Errorf("%s %q is %v, want %v", name, labels, got, want)
		}
	}
	check(1, "crio_erofs_runtime_connected")
	check(1, "crio_erofs_configuration_valid")
	ref := pull(t, server, images.Small)
	families := scrape(t, server)
	layers := value(families, "crio_erofs_volumes_made_total", "kind", "layer")
	if stored := value(families, "crio_erofs_store_volumes"); layers < 2 || layers != stored {
		t.Errorf("%v layers were made, and the store has %v", layers, stored)
	}
	made, size := value(families, "crio_erofs_volumes_made_bytes_total"), value(families, "crio_erofs_store_volume_bytes")
	if made == 0 || made != size || value(families, "crio_erofs_volumes_made_seconds_total") == 0 {
		t.Errorf("%v bytes were made, and the store has %v", made, size)
	}
	checkRuns(t, server, crio.PodOptions{}, ref)
	check(1, "crio_erofs_containers_total", "handler", "default", "outcome", "foreign")
	checkRefused(t, server, request(kata.ModeImageVerity), ref, "but its default runtime handler gives no container that")
	check(1, "crio_erofs_refusals_total", "handler", "default", "reason", "request")
	check(1, "crio_erofs_answer_duration_seconds", "outcome", "refused")
	if err := server.SetConfig("x"); err != nil {
		t.Fatal(err)
	}
	check(0, "crio_erofs_configuration_valid")
	layers = value(scrape(t, server), "crio_erofs_volumes_made_total", "kind", "layer") // with the pods' own image
	if err := server.RemoveImage(ctx, ref); err != nil {
		t.Fatal(err)
	}
	check(layers, "crio_erofs_volumes_made_total", "kind", "layer")
}
