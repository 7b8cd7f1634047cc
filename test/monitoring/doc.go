// Package monitoring has Prometheus's own parsers look at what contrib has for Prometheus and Grafana. It is a module of its
// own, since Prometheus brings much along.
package monitoring
