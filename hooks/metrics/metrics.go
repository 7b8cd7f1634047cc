// Package metrics counts what the hook decides, and shows it to Prometheus together with what the driver has counted in the
// store (package counters). docs/metrics.md has every metric.
package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/crio-erofs/crio-erofs/hooks"
	"github.com/crio-erofs/crio-erofs/kata"
)

// namespace is in front of all names of ours.
const namespace = "crio_erofs"

// What became of a container.
const (
	outcomeAnnotated = "annotated"
	outcomeRefused   = "refused"
	outcomeForeign   = "foreign" // its handler is not one of this project
)

// Metrics counts. A nil Metrics counts nothing.
type Metrics struct {
	registry   *prometheus.Registry
	containers *prometheus.CounterVec
	refusals   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	connected  prometheus.Gauge
	config     atomic.Pointer[string] // path of the configuration file, empty for the default
	graphRoot  atomic.Pointer[string]
}

// DefaultGraphRoot is where CRI-O keeps images if storage.conf does not say otherwise.
const DefaultGraphRoot = "/var/lib/containers/storage"

// New returns metrics that start at zero. version is the program's.
func New(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		containers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "containers_total",
			Help: "Containers that CRI-O asked about, by the pod's runtime handler, the mode that was chosen, and what became of them: " +
				"annotated, refused, or foreign (a handler that is not this project's).",
		}, []string{"handler", "mode", "outcome"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "refusals_total",
			Help: "Containers that were refused, by the pod's runtime handler and the reason.",
		}, []string{"handler", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "answer_duration_seconds",
			Help: "Time in which the hook answered CRI-O about a container. NRI gives up on a plugin after 2 s.",
			// From the usual half a millisecond to what NRI waits (nri_plugin_request_timeout).
			Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2},
		}, []string{"outcome"}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "runtime_connected",
			Help: "1 while the hook is connected to CRI-O's NRI, else 0.",
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1; the label has the hook's version.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.Look("", "")
	m.registry.MustRegister(m.containers, m.refusals, m.seconds, m.connected, build, m.configCollector(), storeCollector{m},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Look says where the rest of the metrics comes from: the configuration file and CRI-O's container storage, empty for the usual
// places.
func (m *Metrics) Look(config, graphRoot string) {
	if m == nil {
		return
	}
	if graphRoot == "" {
		graphRoot = DefaultGraphRoot
	}
	m.config.Store(&config)
	m.graphRoot.Store(&graphRoot)
}

// handlerLabel is the label for a handler's name; a pod without a RuntimeClass has none.
func handlerLabel(handler string) string {
	if handler == "" {
		return "default"
	}
	return handler
}

// Answered counts a container that may be created. Its mode is empty if its handler is not one of this project.
func (m *Metrics) Answered(handler string, mode kata.Mode, took time.Duration) {
	if m == nil {
		return
	}
	outcome := outcomeAnnotated
	if mode == "" {
		outcome, mode = outcomeForeign, "none"
	}
	m.containers.WithLabelValues(handlerLabel(handler), string(mode), outcome).Inc()
	m.seconds.WithLabelValues(outcome).Observe(took.Seconds())
}

// Refused counts a container that must not be created.
func (m *Metrics) Refused(handler string, reason hooks.Reason, took time.Duration) {
	if m == nil {
		return
	}
	m.containers.WithLabelValues(handlerLabel(handler), "none", outcomeRefused).Inc()
	m.refusals.WithLabelValues(handlerLabel(handler), string(reason)).Inc()
	m.seconds.WithLabelValues(outcomeRefused).Observe(took.Seconds())
}

// Connected notes whether there is a connection to the runtime.
func (m *Metrics) Connected(yes bool) {
	if m == nil {
		return
	}
	value := 0.0
	if yes {
		value = 1
	}
	m.connected.Set(value)
}

// Registry has everything, for whoever serves it otherwise than Listen does.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }
