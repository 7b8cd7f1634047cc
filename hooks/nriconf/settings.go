// Package nriconf knows what the NRI plugin is told, and by which name. It is apart from the plugin for programs that
// look at a node without being one: the plugin brings NRI's stub and Prometheus along.
package nriconf

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"
)

const (
	// PluginName and PluginIndex are what the plugin registers as when it is not told otherwise. NRI asks plugins in
	// the order of their indexes, two digits.
	PluginName  = "crio-erofs"
	PluginIndex = "10"
)

// Settings is the plugin's configuration as the runtime hands it over, from /etc/nri/conf.d/10-crio-erofs.conf or
// crio-erofs.conf. It is JSON. What is absent has the value that the program was started with.
type Settings struct {
	// LogLevel is one of logrus's levels.
	LogLevel string `json:"log_level,omitempty"`

	// Config is the path of the configuration file, modes.DefaultPath if empty.
	Config *string `json:"config,omitempty"`

	// Guard is the path of the program to run as the guard, see package nri.
	Guard *string `json:"guard,omitempty"`

	// MetricsAddress is where metrics are served: HOST:PORT, or unix:/PATH; nowhere if it is empty.
	MetricsAddress string `json:"metrics_addr,omitempty"`

	// GraphRoot is CRI-O's container storage, for the metrics of the store; metrics.DefaultGraphRoot if it is empty.
	GraphRoot string `json:"graphroot,omitempty"`
}

// Parse reads and checks settings. An empty text is none.
func Parse(text string) (s Settings, err error) {
	if strings.TrimSpace(text) == "" {
		return s, nil
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("%w; valid is {\"log_level\": \"debug|info|warning|error\", \"config\": \"/PATH\", "+
			"\"guard\": \"/PATH\", \"metrics_addr\": \"HOST:PORT\", \"graphroot\": \"/PATH\"}", err)
	}
	if d.More() {
		return s, errors.New("there is something behind the JSON object")
	}
	for key, path := range map[string]*string{"config": s.Config, "guard": s.Guard, "graphroot": &s.GraphRoot} {
		if path != nil && *path != "" && !filepath.IsAbs(*path) {
			return s, fmt.Errorf("%s: %q is not an absolute path", key, *path)
		}
	}
	if s.LogLevel != "" {
		if _, err := logrus.ParseLevel(s.LogLevel); err != nil {
			return s, fmt.Errorf("log_level: %w", err)
		}
	}
	if s.MetricsAddress != "" {
		if _, _, err := SplitAddress(s.MetricsAddress); err != nil {
			return s, fmt.Errorf("metrics_addr: %w", err)
		}
	}
	return s, nil
}
