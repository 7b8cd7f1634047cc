package nri

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/hooks/metrics"
)

// Settings is the plugin's configuration as the runtime hands it over, from /etc/nri/conf.d/10-crio-erofs.conf or
// crio-erofs.conf. It is JSON. What is absent has the value that the program was started with.
type Settings struct {
	// LogLevel is one of logrus's levels.
	LogLevel string `json:"log_level,omitempty"`

	// Config is the path of the configuration file, modes.DefaultPath if empty.
	Config *string `json:"config,omitempty"`

	// Guard is the path of the program to run as the guard, see Plugin.
	Guard *string `json:"guard,omitempty"`

	// MetricsAddress is where metrics are served: HOST:PORT, or unix:/PATH; nowhere if it is empty.
	MetricsAddress string `json:"metrics_addr,omitempty"`

	// GraphRoot is CRI-O's container storage, for the metrics of the store; metrics.DefaultGraphRoot if it is empty.
	GraphRoot string `json:"graphroot,omitempty"`
}

// ParseSettings reads and checks settings. An empty text is none.
func ParseSettings(text string) (s Settings, err error) {
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
		if err := metrics.CheckAddress(s.MetricsAddress); err != nil {
			return s, fmt.Errorf("metrics_addr: %w", err)
		}
	}
	return s, nil
}

// initial is what settings are changes of.
type initial struct {
	level                             logrus.Level
	config, guard, metrics, graphRoot string
}

// reset takes back the settings of an earlier connection: the runtime may have been restarted because one was taken out.
func (p *Plugin) reset() {
	if p.initial == nil {
		p.initial = &initial{logrus.GetLevel(), p.Configuration.Path, p.Guard, p.MetricsAddress, p.GraphRoot}
	}
	logrus.SetLevel(p.initial.level)
	p.Configuration.Path, p.Guard = p.initial.config, p.initial.guard
	p.MetricsAddress, p.GraphRoot = p.initial.metrics, p.initial.graphRoot
}

// apply takes over the settings in text.
func (p *Plugin) apply(text string) error {
	s, err := ParseSettings(text)
	if err != nil {
		return err
	}
	p.reset()
	if level, err := logrus.ParseLevel(s.LogLevel); err == nil {
		logrus.SetLevel(level)
	}
	if s.Config != nil {
		p.Configuration.Path = *s.Config
	}
	if s.Guard != nil {
		p.Guard = *s.Guard
	}
	if s.MetricsAddress != "" {
		p.MetricsAddress = s.MetricsAddress
	}
	if s.GraphRoot != "" {
		p.GraphRoot = s.GraphRoot
	}
	return nil
}
