package nri

import (
	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/hooks/nriconf"
)

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
	s, err := nriconf.Parse(text)
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
